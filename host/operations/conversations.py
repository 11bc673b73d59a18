"""Talking in the browser: whose conversations these are, sending, and a stream of all that a window should show.

Each person has one chat there, `web:<handle>`; each conversation is a thread of it with one agent, and so has a session
of its own. Several windows may look at one conversation, and every one of them sees all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from dataclasses import field
from pathlib import Path
from typing import Any

from host.access.standing import TERMINAL, Standing, standing_of
from host.central import agent_groups, browser_chats, messaging_groups, routes, session_lookup, sessions
from host.central import turns as turn_table
from host.central.database import Queryable
from host.central.messaging_groups import MessagingGroup, SessionMode, UnknownSender
from host.central.sessions import Session
from host.channels.browser import CHANNEL_TYPE
from host.delivery.check import RowRefused, checked
from host.operations import history, session_stop, wirings
from host.operations import messaging_groups as chats
from host.operations import sessions as session_views
from host.operations.written_ahead import WrittenAhead
from host.routing.event import Event, ReadReceipt
from host.services import Services
from host.sessions.attachments import Attachment
from shared_schema.clock import from_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, InvalidValue, NotFound
from shared_schema.rows import Address, AgentPhase, MessageOut, MessageOutKind

OWNER = "owner"
"""The handle of the owner at the terminal."""
_WORKING_SECONDS = 0.25
_IDLE_SECONDS = 5.0
_GATHER_SECONDS = 0.001
_GATHER_IDLE_SECONDS = 1.0
"""What is committed within it is looked at once. Most of it is of other sessions, so a window in which no answer is
written takes longer; its agent's first hint ends that."""
_MOST_ENTRIES = 200
_MOST_BYTES = 2_000_000
"""Of a window, which gets its entries again with each change: `session export` has all of them."""
_LONGEST_KEY = 100
_WITHDRAWN = "withdrawn"


def handle_of(user: str) -> str:
    """How a user is called in the browser's channel."""
    return OWNER if user == TERMINAL else user.removeprefix(f"{CHANNEL_TYPE}:")


def address_of(user: str) -> str:
    """The chat of a user in the browser."""
    return f"{CHANNEL_TYPE}:{handle_of(user)}"


async def list_all(services: Services, *, user: str, limit: int = 50) -> dict[str, Any]:
    """The conversations of a user, the newest first (`conversations`), and with whom they may talk (`agents`)."""

    def load(connection: Queryable) -> tuple[list[dict[str, Any]], MessagingGroup | None]:
        standing = standing_of(connection, user)
        agents = [
            {"name": group.name, "provider": group.provider, "model": group.model}
            for group in agent_groups.all_groups(connection)
            if standing.belongs_to(group.id)
        ]
        return agents, messaging_groups.find(connection, CHANNEL_TYPE, handle_of(user))

    agents, chat = await services.central.read(load)
    if chat is None:
        return {"conversations": [], "agents": agents}
    found = await session_views.list_all(services, messaging_group=chat.address, limit=limit)
    return {"conversations": found, "agents": agents}


async def show(services: Services, *, user: str, session: str) -> dict[str, Any]:
    """One conversation of a user, or any for an owner: the session, who may write in it, tokens and dollars.

    Raises `NotFound`, also for a conversation of another person.
    """

    def load(connection: Queryable) -> dict[str, Any]:
        found = visible(connection, user, session)
        shown = session_views.shown(services, connection, found.id)
        last = next(iter(turn_table.last(connection, found.id, 1)), None)
        return shown | {
            "is_own": shown["messaging_group"] == address_of(user),
            "present_id": routes.route_of(connection, found).active_session_id,
            "context_tokens": None if last is None else last["context_tokens"] or last["input_tokens"],
            "context_window": None if last is None else last["context_window"],
            "dollars": browser_chats.dollars(connection, found.id),
        }

    return await services.central.read(load)


def visible(connection: Queryable, user: str, session: str) -> Session:
    """The session of that id, if the user may see it. What they may not see is not found, in the same words."""
    found = session_lookup.find(connection, session, deleted=True)
    if standing_of(connection, user).is_owner:
        return found
    chat = None if found.messaging_group_id is None else messaging_groups.by_id(connection, found.messaging_group_id)
    if chat is None or chat.address != address_of(user) or found.status == "deleted":
        session_lookup.find(connection, session, agent_group_id="")  # raises
    return found


async def send(
    services: Services,
    *,
    user: str,
    agent_group: str,
    thread: str,
    text: str,
    message_id: str,
    files: list[str] | None = None,
) -> dict[str, Any]:
    """Take what a person wrote in the browser: `{session_id, message_id, duplicate}`. The same `message_id` is once.

    The thread is the conversation's; a new one begins a conversation. Raises `NotFound`, `Conflict`, `InvalidValue`.
    """
    for what, key in (("thread", thread), ("message id", message_id)):
        if not key or len(key) > _LONGEST_KEY or not key.isascii() or not key.isprintable():
            raise InvalidValue(f"the {what} is not one of the page's")
    if not text.strip() and not files:
        raise InvalidValue("the message is empty", hint="write something, or attach a file")
    await _wire(services, user, agent_group)
    receipt = await services.browser.hand_in(
        Event(
            address=Address(CHANNEL_TYPE, handle_of(user), thread),
            platform_message_id=message_id,
            text=text,
            sender_id=handle_of(user),
            is_mention=True,
            is_group=False,
            attachments=tuple(Attachment(Path(file).name, Path(file)) for file in files or []),
            agent_group=agent_group,
            by_owner=user == TERMINAL,
        )
    )
    if not receipt.accepted:
        raise Conflict(f"the message was not taken: {receipt.dropped}")
    accepted = receipt.accepted[0]
    return {
        "session_id": accepted.session_id,
        "message_id": accepted.message_id,
        "duplicate": accepted.duplicate,
    }


async def read(services: Services, *, user: str, session: str) -> dict[str, Any]:
    """Note that a user has seen a conversation of their own."""
    found = await services.central.read(visible, user, session)
    await services.browser.hand_in(ReadReceipt(Address(CHANNEL_TYPE, handle_of(user), found.thread_id)))
    return {"session_id": found.id}


async def interrupt(services: Services, *, session: str) -> dict[str, Any]:
    """End what the agent of a session does now; its agent stays: `{session_id, cancelled}`."""
    found = await services.central.read(session_lookup.find, session)
    return {"session_id": found.id, "cancelled": await session_stop.interrupt(services, found)}


async def transcript(services: Services, *, session: str) -> list[dict[str, Any]]:
    """What was said in a conversation and was not taken back, oldest first: the newest entries, each once.

    An entry that is on its way from the ledger into the file of its session may be found in both.
    """
    found = await services.central.read(session_lookup.find, session)
    told = await history.transcript_within(services, found.id, _MOST_ENTRIES, most=_MOST_BYTES)
    gone = await services.central.read(browser_chats.withdrawn, found.id)
    kept = {each["id"]: each for each in told if each["status"] != _WITHDRAWN and each["id"] not in gone}
    return list(kept.values())


async def follow(services: Services, *, session: str) -> AsyncIterator[dict[str, Any]]:
    """All that a window should show of a session, from now on and without end.

    `entries`: the newest entries of its transcript, whenever one of them has changed; `working`: elapsed_seconds,
    waiting (messages), phase, tool, draft, when one of them has changed; `idle`: nothing is left to be answered.
    """
    found = await services.central.read(session_lookup.find, session, deleted=True)
    heard = asyncio.Event()
    with services.dispatcher.following() as news, closing(_Window(services, found.id, news)) as window:

        def hear() -> None:
            heard.set()
            news.set()

        with services.supervisor.overheard(found.id, hear):
            while True:
                news.clear()  # before looking, so that what is committed meanwhile is looked at again
                heard.clear()
                commits = services.dispatcher.commits
                for each in await window.look():
                    yield each
                # What an agent has just written is not in the ledger yet: at its hint the agent's file is looked at,
                # and a look at the ledger would find nothing.
                while await _is_woken(window, news) and window.is_working and services.dispatcher.commits == commits:
                    news.clear()
                    heard.clear()
                    for each in await window.look_ahead():
                        yield each
                with suppress(TimeoutError):
                    async with asyncio.timeout(_GATHER_SECONDS if window.is_working else _GATHER_IDLE_SECONDS):
                        await heard.wait()


async def _is_woken(window: _Window, news: asyncio.Event) -> bool:
    """Wait for a commit, a hint or a file that was busy; False where there was none for long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(window.patience):
            await news.wait()
    return news.is_set() or window.ahead.again_in is not None


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What the ledger has for a window: `said` are entries behind the position of its last look."""

    session: Session
    marks: tuple[Any, ...]
    waiting: int
    since: str | None
    position: int | None
    said: list[dict[str, Any]]


@dataclass(slots=True)
class _Window:
    """What one window has been shown.

    The transcript is put together beside all else: it may wait for the session's files, and what an agent says now is
    told without it, as the ledger has it; and before that, as a draft, as the agent's file has it.
    """

    services: Services
    session_id: str
    news: asyncio.Event
    """Set when a transcript is there."""
    marks: tuple[Any, ...] | None = None
    position: int | None = None
    out_cursor: int = 0
    run: int | None = None
    generation: int = 0
    told: list[dict[str, Any]] = field(default_factory=list)
    said: list[dict[str, Any]] = field(default_factory=list)
    """What was said and is in no transcript yet."""
    reading: asyncio.Task[list[dict[str, Any]]] | None = None
    said_before: int = 0
    """How much of it was said when the present transcript was begun, which has that."""
    is_stale: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    ahead: WrittenAhead = field(init=False)
    is_working: bool = True
    since: str = ""

    def __post_init__(self) -> None:
        self.ahead = WrittenAhead(self.services, self.session_id)

    @property
    def patience(self) -> float:
        """Seconds until it is looked again where nothing is heard."""
        return self.ahead.again_in or (_WORKING_SECONDS if self.is_working else _IDLE_SECONDS)

    def close(self) -> None:
        """Read no transcript any more."""
        if self.reading is not None:
            self.reading.cancel()

    async def look(self) -> list[dict[str, Any]]:
        """What is new in the ledger, and in a transcript that is there."""
        found = await self.services.central.read(self._read)
        self.out_cursor, self.run = found.session.out_cursor, found.session.run_number or None
        self.generation = found.session.generation
        news: list[dict[str, Any]] = []
        if found.marks != self.marks:
            self.marks, self.position, self.is_stale = found.marks, found.position, True
            if found.said:
                self.said += found.said
                news.append(self._entries())
        return [*news, *self._transcript(), *await self._state(found.waiting, found.since)]

    async def look_ahead(self) -> list[dict[str, Any]]:
        """What the agent has written since the last look, while nothing was committed in the ledger."""
        news = self._transcript()
        draft = await self._draft()
        if self.state and draft != self.state["draft"]:
            news += self._shown(self.state | {"draft": draft})
        return news

    def _read(self, connection: Queryable) -> _Ledger:
        session = sessions.get(connection, self.session_id)  # raises where it is gone
        marks = browser_chats.marks(connection, self.session_id)
        waiting, since = browser_chats.waiting(connection, self.session_id)
        if marks == self.marks:
            return _Ledger(session, marks, waiting, since, self.position, [])
        position, said = browser_chats.said_behind(connection, self.session_id, self.position)
        return _Ledger(session, marks, waiting, since, position, said)

    def _entries(self) -> dict[str, Any]:
        known = {each["id"] for each in self.told}
        return {"type": "entries", "entries": [*self.told, *(each for each in self.said if each["id"] not in known)]}

    def _transcript(self) -> list[dict[str, Any]]:
        """The entries, once they are there; then they are read again where something has changed since."""
        news: list[dict[str, Any]] = []
        if self.reading is not None and self.reading.done():
            self.told, self.said, self.reading = self.reading.result(), self.said[self.said_before :], None
            news.append(self._entries())
        if self.is_stale and self.reading is None:
            self.is_stale, self.said_before = False, len(self.said)
            self.reading = asyncio.create_task(transcript(self.services, session=self.session_id))
            self.reading.add_done_callback(lambda _: self.news.set())
        return news

    async def _state(self, waiting: int, since: str | None) -> list[dict[str, Any]]:
        if not waiting or since is None:
            was_working, self.is_working, self.state = self.is_working, False, {}
            return [{"type": "idle"}] if was_working else []
        self.is_working = True
        agent = self.services.supervisor.agents.get(self.session_id)
        doing = None if agent is None else agent.doing
        state = {
            "type": "working",
            "waiting": waiting,
            "phase": "starting" if agent is None else doing if doing in set(AgentPhase) else str(AgentPhase.WORKING),
            "tool": None if doing in set(AgentPhase) else doing,
            "draft": await self._draft(),
        }
        if state == self.state:
            return []
        self.since = since
        return self._shown(state)

    def _shown(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        self.state = state
        elapsed = (self.services.clock.now() - from_text(self.since)).total_seconds()
        return [{**state, "elapsed_seconds": round(max(0.0, elapsed), 1)}]

    async def _draft(self) -> str:
        """What the agent has written and the ledger has not: a message, or how far it has come with one."""
        await self.ahead.look(out_cursor=self.out_cursor, run=self.run)
        message = self.ahead.message
        return (message and self._said_ahead(message)) or self.ahead.draft

    def _said_ahead(self, row: MessageOut) -> str:
        """The text of a message that the ledger will show here as it is; empty for any other."""
        try:
            message = checked(row, max_text=self.services.settings.max_text)
        except RowRefused:
            return ""
        is_here = message.destination is None and message.deliver_after is None
        is_said = message.kind == MessageOutKind.CHAT and message.generation == self.generation
        return message.text if is_here and is_said else ""


async def _wire(services: Services, user: str, agent_group: str) -> None:
    """Let an agent answer in the chat of a user, who may talk to it. Raises `NotFound` when they may not."""

    def load(connection: Queryable) -> tuple[bool, bool]:
        group = agent_groups.get_by_name(connection, agent_group)
        standing: Standing = standing_of(connection, user)
        if not standing.belongs_to(group.id):
            raise NotFound(f"there is no agent '{agent_group}' that you may talk to")
        chat = messaging_groups.find(connection, CHANNEL_TYPE, handle_of(user))
        return chat is not None, (
            chat is not None and messaging_groups.wiring_of(connection, chat.id, group.id) is not None
        )

    is_known, is_wired = await services.central.read(load)
    if not is_known:
        with suppress(Conflict):  # another window was faster
            await chats.add(services, address=address_of(user), unknown_sender=UnknownSender.STRICT)
    if not is_wired:
        await wirings.add(
            services,
            messaging_group=address_of(user),
            agent_group=agent_group,
            session_mode=SessionMode.PER_THREAD,
        )
