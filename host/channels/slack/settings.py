"""The settings of a channel of type `slack`."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from host.channels.registry import ChannelSettings


class SlackSettings(ChannelSettings):
    """With `app_token` events come over a socket (Socket Mode); with `signing_secret` Slack posts them to `listen`."""

    offered: ClassVar[tuple[str, ...]] = ("app_token",)
    exclusive: ClassVar[tuple[str, ...]] = ("token", "app_token")

    token: SecretStr = Field(description="the bot token of the app in this workspace; it begins with xoxb-")
    app_token: SecretStr | None = Field(
        default=None, description="the app-level token for Socket Mode, with the scope connections:write (xapp-)"
    )
    signing_secret: SecretStr | None = Field(
        default=None, description="the signing secret of the app, where Slack posts events over HTTP instead"
    )
    listen: str = Field(default="127.0.0.1:3000", description="where events over HTTP are received, as host:port")
    reply_in_thread: bool = Field(
        default=True, description="whether an answer to a message in a channel begins a thread below that message"
    )
    deaf_seconds: float = Field(
        default=30.0,
        ge=1.0,
        le=600.0,
        description="seconds of silence after which the socket is given up and made anew",
    )
    base_url: str = Field(default="https://slack.com/api/", description="where the Web API is")

    @field_validator("token")
    @classmethod
    def _is_bot_token(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().strip().startswith("xoxb-"):
            raise ValueError("it is not a bot token: that begins with xoxb- ('OAuth & Permissions' of the app)")
        return value

    @field_validator("app_token")
    @classmethod
    def _is_app_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().strip().startswith("xapp-"):
            raise ValueError("it is not an app-level token: that begins with xapp- ('Basic Information' of the app)")
        return value

    @field_validator("listen")
    @classmethod
    def _is_place(cls, value: str) -> str:
        place, _, port = value.rpartition(":")
        if not place or not port.isdecimal() or int(port) > 65535:
            raise ValueError("it is not host:port")
        return value

    @model_validator(mode="after")
    def _hears(self) -> Self:
        if (self.app_token is None) == (self.signing_secret is None):
            raise ValueError("set `app_token` (Socket Mode) or `signing_secret` (events over HTTP), one of the two")
        return self
