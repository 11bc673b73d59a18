"""The long poll, and the proof that it hears.

A poll that does not come back in its time is a lost connection, also where the socket seems open; beside it `getMe` is
asked again and again, over another connection. Either ends `run`, and the host connects anew.

Telegram gives each update to one poller alone: a second one, here or elsewhere, is found and told.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from functools import partial

from host.channels.protocol import ChannelUnavailable
from host.channels.telegram.client import SECOND_POLLER, Client
from host.channels.telegram.receiver import TelegramReceiver
from host.channels.telegram.window import LIMIT, Window
from host.channels.telegram.wire import KINDS, update_id
from host.channels.unhurried import Unhurried

log = logging.getLogger(__name__)

_KINDS = json.dumps(KINDS)
_AGAIN_SECONDS = 0.2
"""Between two calls while updates are in work: Telegram answers such a call at once, with the same updates."""
_FAILED_SECONDS = 2.0
_CONFLICT_SECONDS = 2.0
_LOOK_SECONDS = 3.0

_POLLED_HERE: dict[str, str | None] = {}
"""The bots that this process polls, and the sentence on another program that does so too, while there is one."""


async def second_poller(client: Client) -> str | None:
    """A sentence where another program polls. A poll to find out would disturb one of this process: it knows."""
    if client.token in _POLLED_HERE:
        return _POLLED_HERE[client.token]
    try:
        await client.updates(None, _LOOK_SECONDS, _KINDS, 1)
    except ChannelUnavailable as error:
        return f"{error.what}: {error.hint}" if error.hint else error.what
    except TimeoutError:
        return "Telegram gives no updates in time"
    return None


class Polling:
    """One run of long polls, from a fresh connection to its end. Times are seconds; `heard` hears of each answer."""

    def __init__(
        self,
        client: Client,
        receiver: TelegramReceiver,
        *,
        poll_seconds: float,
        probe_seconds: float,
        timeout_seconds: float,
        heard: Callable[[], None],
    ) -> None:
        self._client = client
        self._receiver = receiver
        self._probe_seconds = probe_seconds
        self._poll_seconds = poll_seconds
        self._timeout = timeout_seconds
        self._heard = heard
        self._window = Window()
        self._progress = asyncio.Event()
        self._has_failed = False

    async def run(self) -> None:
        """Poll until the connection is lost. Raises `ChannelUnavailable` and `ChannelRefused`."""
        loops = [asyncio.ensure_future(loop) for loop in (self._poll_regularly(), self._prove_regularly())]
        try:
            done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
            for loop in done:
                loop.result()
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)

    async def _poll_regularly(self) -> None:
        token = self._client.token
        _POLLED_HERE.setdefault(token, None)
        try:
            await self._poll_until_lost()
        except ChannelUnavailable as error:
            _POLLED_HERE[token] = f"{error.what}: {error.hint}" if error.what == SECOND_POLLER else None
            raise
        except asyncio.CancelledError:
            _POLLED_HERE.pop(token, None)
            raise

    async def _prove_regularly(self) -> None:
        """The proof beside the long poll, over a connection of its own."""
        while True:
            await asyncio.sleep(self._probe_seconds)
            await self._client.ask(self._client.bot.get_me)

    async def _poll_until_lost(self) -> None:
        conflicts = 0
        while True:
            try:
                await self._poll()
                conflicts = 0
            except ChannelUnavailable as error:
                # One may be of a poll of our own that died half-way, or of a `check`: the later one wins.
                conflicts += 1
                if error.what != SECOND_POLLER or conflicts > 1:
                    raise
                await asyncio.sleep(_CONFLICT_SECONDS)

    async def confirm(self) -> None:
        """Tell Telegram what is done, before the connection is closed. What fails here comes again, and is known."""
        if not self._window.is_open and self._window.offset is not None:
            await self._ask(self._window.offset, 0.0, 1)

    async def _poll(self) -> None:
        self._progress.clear()
        offset = self._window.offset
        seconds = 0.0 if self._window.is_open else self._poll_seconds
        question = Unhurried(seconds)
        updates = await self._ask(offset, seconds, LIMIT)
        self._window.confirmed(offset)
        self._heard()
        numbered = {number: raw for raw in updates if (number := update_id(raw)) is not None}
        if len(numbered) < len(updates):
            # What has no number can never be confirmed by it; it goes with the one behind it.
            extra = {"count": len(updates) - len(numbered)}
            log.warning("updates of Telegram's without a number were skipped", extra=extra)
            if not numbered:
                await asyncio.sleep(_FAILED_SECONDS)
        self._has_failed = False
        fresh = self._window.new(numbered)
        for number in fresh:
            self._receiver.put(numbered[number], partial(self._came_out, number))
        if self._window.is_open:
            await self._wait()
        elif not fresh:
            await question.wait()

    async def _ask(self, offset: int | None, seconds: float, limit: int) -> list[object]:
        limit_seconds = seconds + self._timeout
        try:
            async with asyncio.timeout(limit_seconds):
                return await self._client.updates(offset, seconds, _KINDS, limit)
        except TimeoutError as error:
            detail = str(error) or f"a long poll did not come back within {limit_seconds:g} seconds"
            raise ChannelUnavailable(f"the bot did not hear Telegram any more: {detail}") from None

    def _came_out(self, number: int, is_done: bool) -> None:
        if is_done:
            self._window.done(number)
        else:
            self._window.failed(number)
            self._has_failed = True
        self._progress.set()

    async def _wait(self) -> None:
        """Until some of what is in work came out, and not longer than new updates should wait."""
        try:
            async with asyncio.timeout(_AGAIN_SECONDS):
                while self._window.is_open and not self._has_failed:
                    await self._progress.wait()
                    self._progress.clear()
        except TimeoutError:
            return
        if self._has_failed:
            await asyncio.sleep(_FAILED_SECONDS)
