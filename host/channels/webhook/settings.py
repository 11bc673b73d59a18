"""The settings of a webhook channel, `[channels.<name>]` with `type = "webhook"`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from host.channels.registry import ChannelSettings
from host.channels.webhook.signature import key_of
from host.channels.webhook.template import parse_pointer, parse_template

SHORTEST_SECRET = 16
_LONGEST_TEMPLATE = 4_000


def _pointer(text: str) -> str:
    parse_pointer(text)
    return text


def _template(text: str) -> str:
    parse_template(text)
    return text


def _secret(secret: SecretStr) -> SecretStr:
    if len(key_of(secret.get_secret_value())) < SHORTEST_SECRET:
        raise ValueError(f"the secret needs at least {SHORTEST_SECRET} bytes; `openssl rand -hex 32` makes one")
    return secret


def _url(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the URL for replies must begin with https:// or http://")
    return url


Pointer = Annotated[str, Field(max_length=500), AfterValidator(_pointer)]
Template = Annotated[str, Field(max_length=_LONGEST_TEMPLATE), AfterValidator(_template)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
ReplyUrl = Annotated[SecretStr, AfterValidator(_url)]


class Hook(BaseModel):
    """How the JSON of one chat is read, `[channels.<name>.hooks.<chat>]`. What is left out comes from the channel.

    `text` is a template (`"{/title}: {/body}"`), the others are JSON pointers into the body. `url` takes the replies.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Template | None = None
    sender: Pointer | None = None
    sender_name: Pointer | None = None
    thread: Pointer | None = None
    url: ReplyUrl | None = None


class WebhookSettings(ChannelSettings):
    """Where the channel listens, how requests are signed, and where replies go."""

    secret: Secret = Field(description="signs requests and replies; `openssl rand -hex 32` makes one")
    old_secret: Secret | None = Field(None, description="also taken in requests, while callers change to a new one")
    host: str = Field("127.0.0.1", description="the address to listen on: this machine alone, unless you say otherwise")
    port: int = Field(8787, ge=0, le=65535, description="the port to listen on")
    path: str = Field("/", pattern="^/", description="what stands before the chat in the path of a request")
    max_bytes: int = Field(1024**2, ge=1_000, le=64 * 1024**2, description="how large the body of a request may be")
    tolerance_seconds: float = Field(300.0, gt=0, le=3_600, description="how far the time of a request may be off")
    wait_seconds: float = Field(300.0, gt=0, le=3_600, description="how long `wait=true` holds an answer back")
    text: Template | None = Field(None, description="a template for the text, with JSON pointers in braces")
    sender: Pointer = Field("/sender", description="a JSON pointer to the id of who speaks")
    sender_name: Pointer = Field("/sender_name", description="a JSON pointer to the name of who speaks")
    thread: Pointer = Field("/thread", description="a JSON pointer to the id of the thread")
    # The URL is a secret: with many services the right to post there is in it.
    url: ReplyUrl | None = Field(None, description="where replies are posted")
    hooks: dict[str, Hook] = Field(default_factory=dict, description="by chat: text, sender, sender_name, thread, url")

    def hook(self, chat: str) -> Hook:
        """How the requests of one chat are read, with everything filled in that has a default."""
        own = self.hooks.get(chat, Hook())
        return Hook.model_construct(
            text=self.text if own.text is None else own.text,
            sender=own.sender or self.sender,
            sender_name=own.sender_name or self.sender_name,
            thread=own.thread or self.thread,
            url=own.url or self.url,
        )
