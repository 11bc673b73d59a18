"""The settings of a bot on Matrix, `[channels.<name>]` with `type = "matrix"`."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from host.channels.registry import ChannelSettings


class MatrixSettings(ChannelSettings):
    """An account of the agent's own."""

    exclusive: ClassVar[tuple[str, ...]] = ("token",)

    homeserver: str = Field(description="the address of the homeserver, such as https://matrix.example.org")
    token: SecretStr = Field(description="the access token of the account")
    join: bool = Field(True, description="whether the bot enters every room that it is invited to")
    sync_seconds: float = Field(30.0, gt=0, le=120, description="how long one question for news may wait at the server")

    @field_validator("homeserver")
    @classmethod
    def _is_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the homeserver's address begins with https://")
        return value.rstrip("/")
