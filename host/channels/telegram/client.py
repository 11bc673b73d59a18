"""The SDK: its requests, and its errors in words of the host. No sentence that leaves here has the token in it.

Every address of the Bot API has the token in its path, so it is in what httpx logs and may be in any exception: their
loggers are turned down, and of an exception only a text without the token goes on, without its cause.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
from telegram import Bot
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    Forbidden,
    InvalidToken,
    NetworkError,
    TelegramError,
)
from telegram.request import HTTPXRequest

from host.channels.protocol import ChannelRefused, ChannelUnavailable, DeliveryRefused, TokenRefused
from host.channels.unreachable import NETWORK, why
from shared_schema.errors import DumbwaiterError

NEW_TOKEN = "get the token from @BotFather (/mybots, API Token)"
SECOND_POLLER = "another program asks for this bot's messages with the same token"
SECOND_POLLER_HINT = "stop the other one, or give it a bot of its own: Telegram gives each message to one of them alone"

_MOST_BYTES = 32 * 1024**2
"""Of one answer. A hundred updates of the longest messages are a third of that."""
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
"""What httpx raises before a byte of the request is out."""

T = TypeVar("T")


class Pause(NetworkError):
    """Telegram asks for a pause of so many seconds (429). The SDK's own error raises a warning of its own."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"pause for {seconds:g} s")
        self.seconds = seconds


class ServerTrouble(NetworkError):
    """Telegram answered with a status of 500 or more."""


class NotSent(NetworkError):
    """The request did not leave the machine."""


class Moved(DumbwaiterError):
    """The chat goes on under another id."""

    def __init__(self, new_id: str) -> None:
        super().__init__("the chat has become a supergroup")
        self.new_id = new_id


class Gone(DeliveryRefused):
    """The bot cannot write in that chat any more."""


class NotParsed(DumbwaiterError):
    """Telegram does not take the formatting, or what it makes of the length."""


class Unchanged(DumbwaiterError):
    """The message has that text already."""


class NoSuchMessage(DeliveryRefused):
    """The message that was to be changed is not there, or cannot be changed."""


class _BoundedBody(httpx.AsyncByteStream):
    """The body of an answer, as far as it is bounded."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > _MOST_BYTES:
                raise httpx.ReadError("the answer is too large")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx.Response) -> None:
    """Have no more of an answer read than can be one. httpx calls this before it reads the body."""
    if (
        response.headers.get("Content-Encoding", "identity") != "identity"
    ):  # which is not asked for: small on its way, and without end unpacked
        raise httpx.ReadError("the answer is compressed")
    assert isinstance(response.stream, httpx.AsyncByteStream), "the client is an asynchronous one"
    response.stream = _BoundedBody(response.stream)


class _Request(HTTPXRequest):
    """The SDK's transport, which bounds answers, and tells what surely did not arrive from what may have."""

    def __init__(self, **options: Any) -> None:
        hooks = {"headers": {"Accept-Encoding": "identity"}, "event_hooks": {"response": [_bound]}}
        super().__init__(**options, httpx_kwargs=hooks)

    async def do_request(self, *arguments: Any, **options: Any) -> tuple[int, bytes]:
        try:
            code, payload = await super().do_request(*arguments, **options)
        except NetworkError as error:
            if isinstance(error.__cause__, _NEVER_SENT):
                raise NotSent(why(error)) from None
            raise
        if code == 429:
            raise Pause(_pause(payload))
        if code >= 500:
            raise ServerTrouble(str(code))
        return code, payload


class Client:
    """One connection to the Bot API: a fresh one for every start, as a pool that was broken off stays broken."""

    def __init__(self, token: str, api_url: str, timeout: float) -> None:
        _quiet_libraries()  # before the first request: its address has the token in it
        base = api_url.rstrip("/")
        self.token = token
        self._timeout = timeout
        limits: dict[str, Any] = {"read_timeout": timeout, "write_timeout": timeout, "connect_timeout": timeout}
        self._calls = _Request(connection_pool_size=64, pool_timeout=timeout, media_write_timeout=120.0, **limits)
        self._polls = _Request(connection_pool_size=1, pool_timeout=timeout, **limits)
        self.bot = Bot(
            token,
            base_url=f"{base}/bot",
            base_file_url=f"{base}/file/bot",
            request=self._calls,
            get_updates_request=self._polls,
        )

    async def updates(self, offset: int | None, seconds: float, kinds: str, limit: int) -> list[Any]:
        """Updates as they came, unread. One that the SDK cannot read must not cost the others."""
        asked: dict[str, str | int] = {"timeout": math.ceil(seconds), "limit": limit, "allowed_updates": kinds}
        query = httpx.QueryParams(asked if offset is None else asked | {"offset": offset})
        async with self.errors():
            found: object = await self._polls.post(
                f"{self.bot.base_url}/getUpdates?{query}", read_timeout=seconds + self._timeout
            )
        if not isinstance(found, list):
            raise ChannelUnavailable("Telegram answered with something that is no list of updates")
        return found

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """A call that may be repeated: one that was lost is one that did not happen."""
        try:
            async with self.errors():
                return await call()
        except TimeoutError as error:
            raise ChannelUnavailable(str(error) or "Telegram does not answer") from None

    @asynccontextmanager
    async def errors(self) -> AsyncIterator[None]:
        """Any error of the SDK as one of the host's. `TimeoutError` leaves open whether Telegram has done it."""
        try:
            yield
        except (DumbwaiterError, TimeoutError):
            raise
        except Exception as error:  # the SDK's classes: each becomes one of ours
            raise self.translated(error) from None

    def translated(self, error: Exception) -> Exception:
        """What the SDK raised, in words of the host."""
        said = str(error).replace(self.token, "[secret]")[:300]
        match error:
            case Pause():
                return ChannelUnavailable("Telegram asks for a pause", retry_after=error.seconds)
            case InvalidToken():
                return TokenRefused("Telegram refuses the token", hint=NEW_TOKEN)
            case Conflict():
                if "webhook" in said.lower():
                    return ChannelRefused("a webhook is set for this bot", hint="set `remove_webhook = true`")
                return ChannelUnavailable(SECOND_POLLER, hint=SECOND_POLLER_HINT)
            case ChatMigrated():
                return Moved(str(error.new_chat_id))
            case Forbidden():
                return Gone(_forbidden(said))
            case BadRequest():
                return _bad_request(said)
            case ServerTrouble():
                return ChannelUnavailable(f"Telegram has trouble of its own (status {said})")
            case NotSent():
                return ChannelUnavailable(f"Telegram cannot be reached: {said}", hint=NETWORK)
            case NetworkError():
                return TimeoutError(f"the connection to Telegram was lost: {said}")
            case TelegramError():  # an answer that is not the Bot API's: a proxy's page, for instance
                return TimeoutError(f"what Telegram answers cannot be read: {said}")
            case _:
                return TimeoutError(f"the connection to Telegram failed: {type(error).__name__}")

    async def close(self) -> None:
        """Disconnect. May be called twice."""
        await self._polls.shutdown()
        await self._calls.shutdown()


def _pause(payload: bytes) -> float:
    """`parameters.retry_after` of an answer, within a day; some seconds where it does not say."""
    try:
        seconds = float(json.loads(payload)["parameters"]["retry_after"])
    except (ValueError, KeyError, TypeError):
        return 5.0
    return min(max(seconds, 1.0), 86_400.0) if math.isfinite(seconds) else 5.0


def _forbidden(said: str) -> str:
    lower = said.lower()
    if "blocked" in lower:
        return "the person has blocked the bot on Telegram"
    if "deactivated" in lower:
        return "the person's Telegram account is gone"
    if "kicked" in lower or "not a member" in lower:
        return "the bot was removed from this chat"
    if "initiate" in lower:
        return "the person has to write to the bot first: Telegram lets no bot begin a conversation"
    return f"Telegram does not let the bot write here: {said}"


def _bad_request(said: str) -> Exception:
    lower = said.lower()
    if "not modified" in lower:
        return Unchanged(said)
    if "can't parse" in lower or "too long" in lower or "entities" in lower or "unsupported start tag" in lower:
        return NotParsed(said)
    if "message to delete not found" in lower or "message can't be deleted" in lower:
        return NoSuchMessage("the message is not there any more, or cannot be taken away")
    if "message to edit not found" in lower or "message can't be edited" in lower or "message_id_invalid" in lower:
        return NoSuchMessage("the message is not there any more, or cannot be changed")
    if "chat not found" in lower or "chat_id_invalid" in lower or "group chat was deactivated" in lower:
        return Gone("Telegram does not know this chat, or the bot is not in it")
    if "thread not found" in lower or "topic_closed" in lower or "topic_deleted" in lower:
        return DeliveryRefused("the topic is closed or gone")
    if "not enough rights" in lower or "have no rights" in lower or "chat_write_forbidden" in lower:
        return DeliveryRefused("the bot has no right to write here: make it an administrator, or let members write")
    if "file is too big" in lower:
        return DeliveryRefused("the file is larger than the 20 MB that Telegram gives to bots")
    if "reaction_invalid" in lower:
        return DeliveryRefused("Telegram has no such reaction")
    return DeliveryRefused(f"Telegram refuses it: {said}")


def _quiet_libraries() -> None:
    """Keep the libraries' own log lines out of the log."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)  # below that they tell every address
    logging.getLogger("telegram").setLevel(logging.CRITICAL + 1)  # what it logs it also raises
