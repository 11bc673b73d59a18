"""Updates into the host: each chat's in order, chats beside each other, and the parts of an album as one event.

Invariant: an update is called done only after `ingest` has returned for all that it means, or when the host can never
use it. Killed at any line, it comes again, and the host knows the message by its id; an album has that of its first
part.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import field

from host.channels.protocol import Ingest
from host.channels.telegram.events import TelegramBot, from_messages, translate
from host.channels.telegram.wire import Message, Update, read_update
from host.routing.event import ChatGone, Clicked
from host.sessions.attachments import AttachmentRefused
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue

log = logging.getLogger(__name__)

ALBUM_PARTS = 10
"""The most parts that an album has on Telegram."""

Outcome = Callable[[bool], None]
"""Hears once whether the update is done (True) or has to come again."""


@dataclass(slots=True)
class _Waiting:
    """What has arrived in one chat and is not in work yet."""

    updates: deque[tuple[Update, Outcome]] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


class TelegramReceiver:
    """Hands updates to `ingest`. `clicked` hears of each click that was taken, `alive` of each chat that was heard."""

    def __init__(
        self,
        ingest: Ingest,
        me: TelegramBot,
        *,
        album_seconds: float,
        clicked: Callable[[str], None],
        alive: Callable[[str], None],
    ) -> None:
        self._ingest = ingest
        self._me = me
        self._album_seconds = album_seconds
        self._clicked = clicked
        self._alive = alive
        self._chats: dict[int | None, _Waiting] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self.skipped = 0

    def put(self, raw: object, outcome: Outcome) -> None:
        """Take an update as it came. One that cannot be read is counted, logged, and done with."""
        try:
            update = read_update(raw)
        except InvalidValue as error:
            self._skip(error)
            outcome(True)
            return
        chat = None if update.chat is None else update.chat.id
        waiting = self._chats.get(chat)
        if waiting is None:
            waiting = self._chats[chat] = _Waiting()
            worker = asyncio.create_task(self._work(chat, waiting), name=f"telegram chat {chat}")
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        waiting.updates.append((update, outcome))
        waiting.arrived.set()

    async def close(self) -> None:
        """Stop. What was not done comes again."""
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        self._chats.clear()

    async def _work(self, chat: int | None, waiting: _Waiting) -> None:
        """Everything that arrives in one chat, one after the other."""
        try:
            while waiting.updates:
                update, outcome = waiting.updates.popleft()
                taken = [(update, outcome)]
                if (group := _album(update)) is not None:
                    taken += await self._rest_of_album(group, waiting)
                is_done = await self._take([each for each, _ in taken])
                if not is_done:  # what came behind it comes again behind it
                    taken += waiting.updates
                    waiting.updates.clear()
                for _, outcome in taken:
                    outcome(is_done)
        finally:
            # In the same step as the last look at the queue: an update that comes now makes a worker of its own.
            if self._chats.get(chat) is waiting:
                del self._chats[chat]

    async def _rest_of_album(self, group: str, waiting: _Waiting) -> list[tuple[Update, Outcome]]:
        """The other parts, until none has come for a while. Other messages stay where they are."""
        parts: list[tuple[Update, Outcome]] = []
        while True:
            found = [each for each in waiting.updates if _album(each[0]) == group]
            if found:
                parts += found
                waiting.updates = deque(each for each in waiting.updates if _album(each[0]) != group)
            if len(parts) >= ALBUM_PARTS - 1:
                return parts
            waiting.arrived.clear()
            try:
                async with asyncio.timeout(self._album_seconds):
                    await waiting.arrived.wait()
            except TimeoutError:
                return parts

    async def _take(self, updates: list[Update]) -> bool:
        """Hand over one update, or those of an album. Whether that is done with."""
        try:
            if _album(updates[0]) is not None:
                happened = from_messages([message for update in updates if (message := _message(update))], self._me)
            else:
                happened = translate(updates[0], self._me)
            for each in happened:
                await self._ingest(each)
                if isinstance(each, Clicked):
                    self._clicked(each.click_id)
                if (chat := updates[0].chat) is not None and not isinstance(each, ChatGone):
                    self._alive(str(chat.id))
        except (InvalidValue, AttachmentRefused) as error:  # it will never do
            self._skip(error)
        except Exception as error:  # the boundary of one update: it was not kept, and comes again
            extra = {"channel": self._me.channel, "error": f"{type(error).__name__}: {error}"[:500]}
            log.error("an update of Telegram's could not be kept and comes again", extra=extra)
            return False
        return True

    def _skip(self, error: Exception) -> None:
        self.skipped += 1
        extra = {"channel": self._me.channel, "error": str(error)[:300], "skipped": self.skipped}
        log.warning("an update of Telegram's was skipped", extra=extra)


def _message(update: Update) -> Message | None:
    return update.message or update.channel_post


def _album(update: Update) -> str | None:
    message = _message(update)
    return None if message is None else message.media_group_id
