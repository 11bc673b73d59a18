"""The settings of the page in the browser: `[web]` in dumbwaiter.toml, and who signs people in: `[web.oidc]`."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

RoleNames = tuple[str, ...]
_ROLE = re.compile(r"owner|(admin|member)(:[^\s:]+)?")
_LONGEST_URL = 500


class OidcSetting(BaseModel):
    """The OpenID Connect provider that signs people in, `[web.oidc]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    issuer: str = Field(description="the provider's address, as it names itself: `https://login.example.org`")
    client_id: str = Field(min_length=1, description="what the provider calls this host")
    client_secret: SecretStr | None = Field(default=None, description="its secret; none: a public client")
    label: str = Field(
        default="OpenID Connect", min_length=1, max_length=60, description="what people call it, as on the button"
    )
    scopes: tuple[str, ...] = Field(
        default=("openid", "profile", "email"), description="what is asked for; `openid` is among it anyway"
    )
    claim: str = Field(
        default="groups", description="the claim with a person's groups; `realm_access.roles` for one inside another"
    )
    groups: dict[str, RoleNames] = Field(
        default={}, description="roles by group: `owner`, `admin`, `member`, or of one agent `member:assistant`"
    )
    people: dict[str, RoleNames] = Field(
        default={}, description="roles by verified e-mail address, or by the provider's own id of a person (`sub`)"
    )
    hours: float = Field(
        default=12, gt=0, le=720, description="how long a browser stays signed in, until the provider is asked again"
    )

    @field_validator("issuer")
    @classmethod
    def _is_address(cls, issuer: str) -> str:
        if not is_safe_url(issuer) or urlsplit(issuer).query or urlsplit(issuer).fragment:
            raise ValueError("an issuer is an https address; http on this machine alone")
        return issuer

    @field_validator("groups", "people", mode="before")
    @classmethod
    def _one_or_more(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        return {name: (roles,) if isinstance(roles, str) else tuple(roles) for name, roles in given.items()}

    @field_validator("groups", "people")
    @classmethod
    def _are_roles(cls, given: dict[str, RoleNames]) -> dict[str, RoleNames]:
        for roles in given.values():
            for role in roles:
                if not _ROLE.fullmatch(role):
                    raise ValueError(f"'{role[:80]}' is no role: write owner, admin, member, or member:assistant")
        return given


class WebSetting(BaseModel):
    """The page in the browser, `[web]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="whether the page is served: auto from the first `dumbwaiter web` on, while a browser is signed in",
    )
    address: str = Field(
        default="127.0.0.1", description="where it listens; another address than this machine's own needs TLS"
    )
    port: int = Field(default=8384, ge=0, le=65535, description="its port; 0: any free one")
    hosts: tuple[str, ...] = Field(
        default=(), description="further names under which browsers reach it, such as `agents.example.org`"
    )
    certificate: Path | None = Field(default=None, description="file with the TLS certificate and its chain (PEM)")
    key: Path | None = Field(default=None, description="file with its key (PEM); none: it is in the certificate's")
    url: str | None = Field(
        default=None, description="where browsers reach it through a proxy: `https://agents.example.org`"
    )
    oidc: OidcSetting | None = Field(
        default=None, description="the provider that signs people in: a table of its own, see below"
    )

    @field_validator("url")
    @classmethod
    def _is_origin(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ValueError("an address has a scheme and a name alone: https://agents.example.org")
        return f"{parts.scheme}://{parts.netloc}".lower()


def is_safe_url(url: str) -> bool:
    """Whether a secret can be sent there: over TLS, or on this machine."""
    try:
        parts = urlsplit(url)
        name = parts.hostname
        _ = parts.port
    except ValueError:
        return False
    if not name or "@" in parts.netloc or len(url) > _LONGEST_URL:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_this_machine(name))


def _is_this_machine(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
