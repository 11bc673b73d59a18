"""What a chat is shown while an agent works: a sign of typing, or an answer that grows in a message of the chat.

Shown to people who wait, and never relied upon: what counts is the message that follows, which becomes the whole of the
draft by an edit. The same source as of the terminal: what the agent writes, and the tool it uses.

Invariant: no draft is made or changed once its answer is being sent (`settle`): there is one message in the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import field
from typing import Any

from host.background import boundary, heard
from host.backoff import Backoff
from host.central import deliveries, drafts
from host.central.database import Central, Queryable, one
from host.channels.protocol import Channel, ChannelUnavailable, Outgoing
from host.delivery.split import size_of, split
from host.sessions import outbox
from host.supervision.agent import RunningAgent
from shared_schema.clock import Clock
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileTrouble
from shared_schema.rows import Address, AgentPhase, MessageOutKind, Row

log = logging.getLogger(__name__)

WORK = """
SELECT i.message_id, i.channel_type, i.platform_id, i.thread_id, i.platform_message_id, i.sender_id,
    coalesce(m.is_group, 0) AS is_group, coalesce(w.progress, 'typing') AS progress
FROM ingest i INDEXED BY ingest_open
LEFT JOIN messaging_groups m ON m.channel_type = i.channel_type AND m.platform_id = i.platform_id
LEFT JOIN wirings w ON w.messaging_group_id = m.id AND w.agent_group_id = i.agent_group_id
WHERE i.session_id = ? AND i.status = 'pending' AND i.trigger = 1 AND i.kind = 'chat'
ORDER BY i.position LIMIT 1
"""
ANSWERED = "SELECT 1 FROM deliveries WHERE session_id = ? AND in_reply_to = ? AND kind = 'chat' LIMIT 1"

_CALL_SECONDS = 10.0
_LOOK_SECONDS = 1.0
_LEAST = 20
"""Characters of an answer that are worth a message."""
_TOOL_SECONDS = 5.0
"""After which a tool that runs is worth a word."""
_ROOM = 60
"""Of a message that is left for the word on a tool."""
_UNAVAILABLE = Backoff(5.0, 600.0)
_INTERRUPTED = "(This answer was interrupted.)"


@dataclass(frozen=True, slots=True)
class Work(Row):
    """The oldest message of a session that waits for an answer, and what its chat is shown meanwhile."""

    message_id: str
    channel_type: str
    platform_id: str
    thread_id: str | None
    platform_message_id: str
    sender_id: str | None
    is_group: int
    progress: str

    @property
    def address(self) -> Address:
        return Address(self.channel_type, self.platform_id, self.thread_id)


@dataclass(slots=True)
class _Shown:
    """What one session shows. `lock` is held while a draft is made or changed; `settled` are answered messages."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    settled: bool = False
    draft_id: str | None = None
    address: Address | None = None
    text: str = ""
    message_id: str = ""
    typed_at: float = -1e9
    drafted_at: float = -1e9
    tool: str | None = None
    tool_since: float = 0.0
    again: asyncio.Event = field(default_factory=asyncio.Event)


class ProgressDisplay:
    """Shows what agents do in the chats whose channels can show it."""

    def __init__(
        self,
        central: Central,
        clock: Clock,
        channels: Mapping[str, Channel],
        agents: Callable[[], Mapping[str, RunningAgent]],
    ) -> None:
        self._central = central
        self._clock = clock
        self._channels = channels
        self._agents = agents
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._shown: dict[str, _Shown] = {}
        self._is_open = False

    @property
    def at_work(self) -> list[str]:
        """The sessions for which something is shown at the moment."""
        return list(self._tasks)

    async def start(self) -> None:
        """Also the drafts that an earlier host left are brought to their end."""
        self._is_open = True
        for session_id in await self._central.read(drafts.sessions):
            self._begin(session_id)

    def accepted(self, session_id: str) -> None:
        """Something waits for an answer in a session."""
        if self._is_open and any(_shows(channel) for channel in self._channels.values()):
            self._begin(session_id)

    async def settle(self, session_id: str) -> str | None:
        """The answer is about to be sent: nothing is drafted for it any more; the id of its draft, if there is one."""
        shown = self._shown.get(session_id)
        if shown is None:
            return None
        async with shown.lock:
            shown.settled = True
            return shown.draft_id

    async def close(self) -> None:
        """Show nothing more."""
        self._is_open = False
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, session_id: str) -> None:
        if session_id in self._tasks:
            self._shown[session_id].again.set()
            return
        self._shown[session_id] = _Shown()
        task = asyncio.create_task(self._show(session_id), name=f"progress {session_id}")
        self._tasks[session_id] = task
        task.add_done_callback(lambda _: self._over(session_id))

    def _over(self, session_id: str) -> None:
        del self._tasks[session_id], self._shown[session_id]

    async def _show(self, session_id: str) -> None:
        shown = self._shown[session_id]
        with boundary(log, "what an agent does cannot be shown", session=session_id):
            found = await self._central.read(drafts.of, session_id)
            if found is not None:  # of an earlier host
                shown.address, shown.draft_id = found
            await self._show_work(session_id, shown)
            while await self._finish(session_id, shown):  # another message has come meanwhile
                await self._show_work(session_id, shown)

    async def _show_work(self, session_id: str, shown: _Shown) -> None:
        """Show what is done while a message waits for its answer."""
        while True:
            shown.again.clear()  # before looking: from then on it says that another message has come
            work = await self._central.read(_work, session_id)
            channel = None if work is None else self._channels.get(work.channel_type)
            if work is None or channel is None or work.progress == "off" or not _shows(channel):
                break
            if work.message_id != shown.message_id:
                await self._next_message(session_id, shown, work)
            await self._look(session_id, shown, work, channel)
            await heard(shown.again, _LOOK_SECONDS)

    async def _next_message(self, session_id: str, shown: _Shown, work: Work) -> None:
        """Another message is the oldest now: its answer has not begun, unless it was answered already."""
        async with shown.lock:
            if shown.message_id:
                shown.draft_id, shown.text = None, ""
            shown.message_id = work.message_id
            shown.settled = await self._central.read(
                lambda c: one(c, ANSWERED, (session_id, work.message_id)) is not None
            )

    async def _look(self, session_id: str, shown: _Shown, work: Work, channel: Channel) -> None:
        """Show what is due by now."""
        can, now = channel.capabilities, self._clock.monotonic()
        if can.typing_seconds is not None and now - shown.typed_at >= can.typing_seconds - _LOOK_SECONDS / 2:
            shown.typed_at = now
            await self._quietly(channel.typing(work.address), shown)
        if work.progress != "draft" or can.draft_seconds is None or not can.edits:
            return
        pace = can.draft_seconds[1 if work.is_group else 0]
        if now - shown.drafted_at < pace:
            return
        text = await self._text(session_id, shown, channel)
        if text and text != shown.text:
            async with shown.lock:
                if not shown.settled:
                    shown.drafted_at = now
                    await self._quietly(self._draft(session_id, shown, work, channel, text), shown)

    async def _draft(self, session_id: str, shown: _Shown, work: Work, channel: Channel, text: str) -> None:
        """Make the draft, or let it grow. A draft is on the disk as soon as it is there."""
        if shown.draft_id is not None:
            await channel.edit(work.address, shown.draft_id, text, ())
            shown.text = text
            return
        message = Outgoing(
            key=f"{session_id}/draft/{work.message_id}",
            address=work.address,
            kind=MessageOutKind.CHAT,
            text=text,
            in_reply_to=work.message_id,
            reply_to=work.platform_message_id,
            is_draft=True,
            for_user=work.sender_id,
        )
        made = await channel.deliver(message)
        if made is None:
            shown.settled = True  # it cannot be changed
            return
        shown.draft_id, shown.text, shown.address = made, text, work.address
        await self._central.write(drafts.put, session_id, work.address, made)

    async def _text(self, session_id: str, shown: _Shown, channel: Channel) -> str:
        """What the agent has written so far, and which tool it uses for how long."""
        agent = self._agents().get(session_id)
        if agent is None:
            return ""
        written = ""
        with suppress(FileTrouble):  # busy or gone at this moment
            written = (await asyncio.to_thread(outbox.draft, agent.folder)).strip()
        can = channel.capabilities
        if can.max_text is not None and size_of(written, can.text_unit) > can.max_text - _ROOM:
            written = split(written, can.max_text - _ROOM, can.text_unit)[0] + " …"
        tool = self._tool(shown, agent)
        if len(written) < _LEAST and shown.draft_id is None:
            written = ""
        return "\n\n".join(part for part in (written, tool) if part)

    def _tool(self, shown: _Shown, agent: RunningAgent) -> str:
        doing = None if agent.doing in set(AgentPhase) else agent.doing
        now = self._clock.monotonic()
        if doing != shown.tool:
            shown.tool, shown.tool_since = doing, now
        elapsed = now - shown.tool_since
        if doing is None or elapsed < _TOOL_SECONDS:
            return ""
        return f"⏳ {doing[:40]}, {_in_words(elapsed)}"

    async def _finish(self, session_id: str, shown: _Shown) -> bool:
        """A draft that nothing has become of says so: its turn was stopped, or its conversation left.

        While its platform is away it is tried again. Whether another message has come meanwhile, whose answer is to be
        a message of its own.
        """
        found = await self._central.read(drafts.of, session_id)
        if found is None:
            return shown.again.is_set()
        for _ in range(30):  # its answer may be on its way
            if not await self._central.read(deliveries.waiting_count, session_id, 1):
                break
            await asyncio.sleep(_LOOK_SECONDS)
        else:
            return shown.again.is_set()
        found = await self._central.read(drafts.of, session_id)
        channel = None if found is None else self._channels.get(found[0].channel_type)
        if found is None or channel is None:
            return shown.again.is_set()
        address, draft_id = found
        text = f"{shown.text}\n\n{_INTERRUPTED}" if shown.text else _INTERRUPTED
        whole = Outgoing(
            key=f"{session_id}/draft/{draft_id}/end",
            address=address,
            kind=MessageOutKind.CHAT,
            text=text,
            from_host=True,
            draft_id=draft_id,
        )
        attempts = 0
        while (wait := await self._quietly(channel.deliver(whole), shown)) is not None:
            attempts += 1
            if await heard(shown.again, wait or _UNAVAILABLE.after(attempts)):
                break
        await self._central.write(drafts.remove, session_id, draft_id)
        shown.draft_id, shown.text = None, ""
        return shown.again.is_set()

    async def _quietly(self, call: Coroutine[Any, Any, object], shown: _Shown) -> float | None:
        """Make a call of the platform that nothing depends on. Seconds until it may be made again; None: it is over."""
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                await call
        except ChannelUnavailable as error:
            wait = error.retry_after or 0.0
            shown.typed_at = shown.drafted_at = self._clock.monotonic() + (wait or _CALL_SECONDS)
            return wait
        except TimeoutError:
            return 0.0
        except Exception as error:  # the boundary of one call of a platform
            log.debug("what an agent does was not shown", extra={"error": type(error).__name__})
        return None


def _work(connection: Queryable, session_id: str) -> Work | None:
    row = one(connection, WORK, (session_id,))
    return None if row is None else Work.from_row(row)


def _shows(channel: Channel) -> bool:
    """Whether a channel can show anything of an agent's work."""
    can = channel.capabilities
    return can.typing_seconds is not None or (can.draft_seconds is not None and can.edits)


def _in_words(seconds: float) -> str:
    return f"{int(seconds)} s" if seconds < 60 else f"{int(seconds // 60)} min"
