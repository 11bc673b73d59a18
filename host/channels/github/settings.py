"""The settings of a bot on GitHub, `[channels.<name>]` with `type = "github"`."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from host.channels.registry import ChannelSettings

_REPOSITORY = re.compile(r"[A-Za-z0-9-]{1,39}/[A-Za-z0-9._-]{1,100}")
_PAGE = re.compile(r"\A(?:https://)?github\.com/")
"""What stands before the name in the address of its page, which people paste."""


def is_repository(text: str) -> bool:
    """Whether this is `owner/name`."""
    return _REPOSITORY.fullmatch(text) is not None


class GitHubSettings(ChannelSettings):
    """An account of the agent's own, and the repositories in which it listens."""

    token: SecretStr = Field(description="an access token of the account, with the right to read and write issues")
    repositories: tuple[str, ...] = Field(min_length=1, max_length=100, description="where it listens: owner/name")
    label: str | None = Field(None, max_length=50, description="a label that engages the agent, besides a mention")
    poll_seconds: float = Field(60.0, ge=1, le=3_600, description="how often the repositories are asked for news")
    api_url: str = Field("https://api.github.com", description="the address of the API, of an Enterprise Server")
    webhook_secret: SecretStr | None = Field(None, description="the secret of a webhook; without it there is none")
    webhook_host: str = Field("127.0.0.1", description="the address on which webhooks are taken")
    webhook_port: int = Field(8788, ge=0, le=65535, description="the port on which webhooks are taken")

    @field_validator("repositories")
    @classmethod
    def _are_repositories(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [_PAGE.sub("", each).removesuffix("/").removesuffix(".git") for each in value]
        for each in names:
            if not is_repository(each):
                raise ValueError("a repository is written as owner/name")
        return tuple(dict.fromkeys(names))

    @field_validator("api_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the address of the API begins with https://")
        return value.rstrip("/")

    @field_validator("webhook_secret")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 16:
            raise ValueError("the secret needs at least 16 characters; `openssl rand -hex 32` makes one")
        return value
