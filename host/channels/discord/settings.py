"""The settings of a channel of type `discord`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from host.channels.registry import ChannelSettings


class DiscordSettings(ChannelSettings):
    """A bot is known by its token alone."""

    exclusive: ClassVar[tuple[str, ...]] = ("token",)

    token: SecretStr = Field(description="the token of the bot ('Bot' of the application, 'Reset Token')")
    slash_commands: bool = Field(
        default=True, description="whether /new, /stop and the others are offered while typing"
    )
    deaf_seconds: float = Field(
        default=60.0, ge=1.0, le=600.0, description="seconds of silence after which the connection is given up"
    )
    base_url: str = Field(default="https://discord.com/api/v10", description="where the API is")

    @field_validator("token")
    @classmethod
    def _is_token(cls, value: SecretStr) -> SecretStr:
        token = value.get_secret_value().strip()
        if len(token) < 20 or any(character.isspace() for character in token) or token.startswith("Bot "):
            raise ValueError("it is no bot token: copy it from 'Bot', 'Reset Token', without the word Bot before it")
        return value
