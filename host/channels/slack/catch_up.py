"""What was written while we were away, or could not be kept. Slack repeats an event for some minutes at most; the rest
is asked for here.

Asked is from the last moment at which we surely heard, which is noted again and again, by Slack's clock: our own may be
off by an hour, or be set meanwhile. What was taken before is known by its `ts`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from host.background import heard
from host.channels.protocol import ChannelRefused, ChannelState, ChannelUnavailable, DeliveryRefused
from host.channels.slack.client import SlackApi, SlackError, cursor_in
from shared_schema.clock import Clock
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.pages import PageCursors

log = logging.getLogger(__name__)

_MAX_CHATS = 500
_MAX_CHAT_PAGES = 50  # which may be short ones, or empty
_MAX_PAGES = 10
_MAX_THREADS = 50
_PAGE = 100
_MOMENT, _CLEAN = "heard_at", "ended_cleanly"
_NOTE_SECONDS = 60.0
_AGAIN_SECONDS = 5.0
_DATE_SECONDS = 2.0  # a `Date` is whole seconds, and some way old


class SlackCatchUp:
    """Up to when we have heard, over restarts.

    `take` hands over one event of the Events API; `missed` is set when one could not be kept.
    """

    def __init__(
        self,
        state: ChannelState,
        clock: Clock,
        api: Callable[[], SlackApi],
        take: Callable[[Mapping[str, Any]], Awaitable[None]],
        missed: asyncio.Event,
    ) -> None:
        self._state = state
        self._clock = clock
        self._api = api
        self._take = take
        self._missed = missed
        self._ahead = 0.0  # seconds by which Slack's clock is ahead of our monotonic one, which is never set

    def now(self) -> float:
        """The time by Slack's clock, in seconds since 1970, a little early."""
        return self._clock.monotonic() + self._ahead - _DATE_SECONDS

    def read_clock(self, head: Mapping[str, str]) -> None:
        """Take Slack's time from the head of an answer that has just come."""
        try:
            moment = parsedate_to_datetime(head.get("Date", "")).timestamp()
        except (ValueError, TypeError):
            moment = self._clock.now().timestamp()
        self._ahead = moment - self._clock.monotonic()

    async def was_killed(self) -> bool:
        """Whether the last host ended without a word, perhaps while it sent."""
        return await self._state.get(_MOMENT) is not None and await self._state.get(_CLEAN) != "yes"

    async def begin(self) -> None:
        """A connection begins."""
        await self._state.set(_CLEAN, "no")
        if await self._state.get(_MOMENT) is None:  # nothing before the first start is ours to answer
            await self._state.set(_MOMENT, f"{self.now():.6f}")

    async def end_cleanly(self) -> None:
        """The connection has ended in good order, and it is known of every message whether it was sent."""
        await self._state.set(_CLEAN, "yes")

    async def run(self) -> None:
        """Catch up, and then note again and again until when we heard. Raises the errors of the protocol."""
        moment = float(await self._state.get(_MOMENT) or self.now())
        await self._catch_up(moment)
        while True:
            until = self.now()
            if await heard(self._missed, _NOTE_SECONDS):  # else what came until then is kept by now
                await asyncio.sleep(_AGAIN_SECONDS)
                self._missed.clear()  # before it is asked for: what cannot be kept meanwhile is asked for next
                await self._catch_up(moment)
            await self._state.set(_MOMENT, f"{until:.6f}")
            moment = until

    async def _catch_up(self, moment: float) -> None:
        while True:
            try:
                async for message in messages_since(self._api(), moment):
                    try:
                        await self._take(message)
                    except InvalidValue as error:
                        log.warning("a message of Slack cannot be used", extra={"error": str(error)})
            except ChannelUnavailable as error:  # what was taken by now is known when it comes again
                await asyncio.sleep(error.retry_after or _AGAIN_SECONDS)
            except (ChannelRefused, DeliveryRefused):
                raise
            except DumbwaiterError as error:  # it cannot be kept now
                log.error("what was written meanwhile cannot be kept yet", extra={"error": str(error)})
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                return


async def messages_since(api: SlackApi, moment: float) -> AsyncIterator[Mapping[str, Any]]:
    """The messages since `moment` (seconds since 1970) of the chats that we are in, as events; oldest first in a chat.

    A chat that cannot be read is left out. Raises `ChannelUnavailable`.
    """
    async for chat in _chats(api):
        channel = chat.get("id")
        if not isinstance(channel, str):
            continue
        kind = "im" if chat.get("is_im") else "mpim" if chat.get("is_mpim") else "channel"
        try:
            for message in await _of_chat(api, channel, moment):
                yield {**message, "type": "message", "channel": channel, "channel_type": kind}
        except SlackError as error:
            log.warning("a chat cannot be caught up", extra={"chat": channel, "error": error.code})


async def _chats(api: SlackApi) -> AsyncIterator[Mapping[str, Any]]:
    cursor: str | None = None
    cursors, count = PageCursors(_MAX_CHAT_PAGES), 0
    while count < _MAX_CHATS:
        try:
            answer = await api.call(
                "users.conversations",
                types="public_channel,private_channel,mpim,im",
                exclude_archived=True,
                limit=_PAGE,
                cursor=cursor,
            )
        except SlackError as error:
            log.warning("what was written meanwhile cannot be caught up", extra={"error": error.code})
            return
        for chat in _list(answer.get("channels")):
            count += 1
            yield chat
        cursor = cursors.next(cursor_in(answer))
        if cursor is None:
            return


async def _of_chat(api: SlackApi, channel: str, moment: float) -> list[Mapping[str, Any]]:
    found = [
        each for each in await _pages(api, "conversations.history", moment, channel=channel) if _is_new(each, moment)
    ]
    # A thread's answers stand in no history: those with new ones are found by their first messages.
    recent = await api.call("conversations.history", channel=channel, limit=_PAGE)
    threads = [each for each in _list(recent.get("messages")) if _seconds(each.get("latest_reply")) > moment]
    for parent in threads[:_MAX_THREADS]:
        answers = await _pages(api, "conversations.replies", moment, channel=channel, ts=str(parent.get("ts")))
        found += [each for each in answers if each.get("ts") != parent.get("ts") and _is_new(each, moment)]
    known: dict[str, Mapping[str, Any]] = {str(each.get("ts")): each for each in found}
    return [known[ts] for ts in sorted(known, key=_seconds)]


async def _pages(api: SlackApi, method: str, moment: float, **arguments: str) -> list[Mapping[str, Any]]:
    cursor: str | None = None
    found: list[Mapping[str, Any]] = []
    cursors = PageCursors(_MAX_PAGES)
    while True:
        answer = await api.call(method, oldest=f"{moment:.6f}", limit=_PAGE, cursor=cursor, **arguments)
        found += _list(answer.get("messages"))
        cursor = cursors.next(cursor_in(answer))
        if cursor is None:
            return found


def _is_new(message: Mapping[str, Any], moment: float) -> bool:
    return _seconds(message.get("ts")) > moment


def _seconds(value: object) -> float:
    try:
        return float(value) if isinstance(value, str) else 0.0
    except ValueError:
        return 0.0


def _list(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
