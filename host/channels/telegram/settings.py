"""The settings of a channel of type `telegram`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, SecretStr

from host.channels.registry import ChannelSettings


class TelegramSettings(ChannelSettings):
    """A bot is known by its token alone. Times are seconds."""

    exclusive: ClassVar[tuple[str, ...]] = ("token",)

    token: SecretStr = Field(description="the token that @BotFather gives, such as 123456789:AAF…")
    mode: Literal["polling", "webhook"] = Field(
        "polling", description="polling: the host asks Telegram; webhook: Telegram calls `webhook_url`"
    )
    remove_webhook: bool = Field(False, description="with polling, take away a webhook that is set for this bot")
    webhook_url: str | None = Field(None, description="the https address under which Telegram reaches the host")
    webhook_host: str = Field("127.0.0.1", description="where the host listens for webhooks, behind your https proxy")
    webhook_port: int = Field(8443, ge=0, le=65535, description="the port for webhooks")
    api_url: str = Field("https://api.telegram.org", description="another Bot API server than Telegram's own")
    poll_seconds: float = Field(25.0, gt=0, le=50, description="how long one long poll waits for something new")
    probe_seconds: float = Field(30.0, gt=0, description="how often the host proves that the bot still hears")
    timeout_seconds: float = Field(15.0, gt=0, description="how long an answer of Telegram's may take")
    album_seconds: float = Field(1.0, ge=0, le=30, description="how long the host waits for more pictures of an album")
