"""The settings of a mailbox, `[channels.<name>]` with `type = "email"`."""

from __future__ import annotations

import ipaddress
from typing import ClassVar, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from host.channels.email.addresses import is_address
from host.channels.registry import ChannelSettings

WHERE = "see whether `{0}_host`, `{0}_port` and `{0}_security` are those that the provider names"
"""What to look at where a server cannot be reached; with `imap` or `smtp`."""


class EmailSettings(ChannelSettings):
    """A mailbox of the agent's own."""

    offered: ClassVar[tuple[str, ...]] = ("authserv_id",)

    address: str = Field(description="the address of the mailbox")
    password: SecretStr = Field(description="the password of the mailbox, or one that is made for this program")
    imap_host: str = Field(description="the server that mail is read from")
    smtp_host: str = Field(description="the server that mail is sent through")
    authserv_id: str | None = Field(
        None, max_length=255, description="the server's name in `Authentication-Results`, which it checks senders under"
    )
    verify_senders: bool = Field(True, description="false: believe every sender, on a server strangers cannot reach")
    user: str | None = Field(None, max_length=320, description="what to log in as, where it is not the address")
    display_name: str | None = Field(None, max_length=100, description="the name in front of the address")
    imap_port: int = Field(993, ge=1, le=65535, description="its port")
    imap_security: Literal["tls", "starttls", "none"] = Field(
        "tls", description="`starttls` on port 143; `none` only for a server on this machine"
    )
    smtp_port: int = Field(465, ge=1, le=65535, description="its port")
    smtp_security: Literal["tls", "starttls", "none"] = Field(
        "tls", description="`starttls` on port 587; `none` only for a server on this machine"
    )
    smtp_login: bool = Field(True, description="false: send without logging in")
    folder: str = Field("INBOX", max_length=200, description="the folder that is read")
    sent_folder: str | None = Field("Sent", max_length=200, description="the folder for what is sent; empty: none")
    poll_seconds: float = Field(
        60.0, gt=0, le=1_500, description="how often the folder is read besides what the server announces"
    )
    max_bytes: int = Field(
        25 * 1024**2, ge=10_000, le=100 * 1024**2, description="of a larger mail only its beginning is taken"
    )

    @field_validator("address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if not is_address(value):
            raise ValueError("this is no mail address")
        return value.lower()

    @field_validator("user", "sent_folder")
    @classmethod
    def _is_one_line(cls, value: str | None) -> str | None:
        if not value:
            return None
        if not (value.isascii() and value.isprintable()):
            raise ValueError("this must be one line of ASCII")
        return value

    @model_validator(mode="after")
    def _is_safe(self) -> EmailSettings:
        for what, security, host in (
            ("imap", self.imap_security, self.imap_host),
            ("smtp", self.smtp_security, self.smtp_host),
        ):
            if security == "none" and not _is_here(host):
                raise ValueError(f"{what}_security may be 'none' only for a server on this machine, and {host} is not")
        return self


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
