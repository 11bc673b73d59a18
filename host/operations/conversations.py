"""Talking in the browser: whose conversations these are, sending, and a stream of all that a window should show.

Each person has one chat there, `web:<handle>`; each conversation is a thread of it with one agent, and so has a session
of its own. Several windows may look at one conversation, and every one of them sees all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from host.access.standing import TERMINAL, Standing, standing_of
from host.central import agent_groups, browser_chats, messaging_groups, routes, session_lookup
from host.central import turns as turn_table
from host.central.database import Queryable
from host.central.messaging_groups import MessagingGroup, SessionMode, UnknownSender
from host.central.sessions import Session
from host.channels.browser import CHANNEL_TYPE
from host.operations import history, session_stop, wirings
from host.operations import messaging_groups as chats
from host.operations import sessions as session_views
from host.routing.event import Event, ReadReceipt
from host.services import Services
from host.sessions import outbox
from host.sessions.attachments import Attachment
from host.sessions.outbox import Signature
from shared_schema.clock import from_text
from shared_schema.errors import Conflict, FileTrouble, InvalidValue, NotFound
from shared_schema.rows import Address, AgentPhase

OWNER = "owner"
"""The handle of the owner at the terminal."""
_WORKING_SECONDS = 0.25
_IDLE_SECONDS = 5.0
_GATHER_SECONDS = 0.001
_GATHER_IDLE_SECONDS = 1.0
"""What is committed within it is looked at once. Most of it is of other sessions, so a window in which no answer is
written takes longer; its agent's first hint ends that."""
_MOST_ENTRIES = 200
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


async def file(services: Services, *, user: str, session: str, message: str, number: int) -> dict[str, str]:
    """Where a file of a message is, the first being 0: `{folder, path, name}`; `path` is below the session's folder.

    Raises `NotFound`.
    """

    def load(connection: Queryable) -> tuple[Session, str]:
        found = visible(connection, user, session)
        files = browser_chats.files_of(connection, found.id, message)
        if not 0 <= number < len(files):
            raise NotFound("there is no such file in this conversation")
        return found, files[number]

    found, path = await services.central.read(load)
    return {"folder": str(services.inbox_sync.folder(found).folder), "path": path, "name": Path(path).name}


async def transcript(services: Services, *, session: str) -> list[dict[str, Any]]:
    """What was said in a conversation and was not taken back, oldest first: the newest entries, each once.

    An entry that is on its way from the ledger into the file of its session may be found in both.
    """
    found = await services.central.read(session_lookup.find, session)
    told = await history.transcript(services, session=found.id, limit=_MOST_ENTRIES)
    gone = await services.central.read(browser_chats.withdrawn, found.id)
    kept = {each["id"]: each for each in told if each["status"] != _WITHDRAWN and each["id"] not in gone}
    return list(kept.values())


async def follow(services: Services, *, session: str) -> AsyncIterator[dict[str, Any]]:
    """All that a window should show of a session, from now on and without end.

    `entries`: the newest entries of its transcript, whenever one of them has changed; `working`: elapsed_seconds,
    waiting (messages), phase, tool, draft, when one of them has changed; `idle`: nothing is left to be answered.
    """
    found = await services.central.read(session_lookup.find, session, deleted=True)
    window = _Window(services, found.id)
    heard = asyncio.Event()
    with services.dispatcher.following() as news:

        def hear() -> None:
            heard.set()
            news.set()

        with services.supervisor.overheard(found.id, hear):
            while True:
                news.clear()  # before looking, so that what is committed meanwhile is looked at again
                heard.clear()
                commits = services.dispatcher.commits
                async for each in window.look():
                    yield each
                # What an agent has just written is not in the ledger yet: at its hint its draft alone may be new. What
                # it said comes with the commit, which does not wait behind a look at the ledger that finds nothing.
                while await _is_woken(window, news) and window.is_working and services.dispatcher.commits == commits:
                    news.clear()
                    heard.clear()
                    for each in await window.look_at_draft():
                        yield each
                with suppress(TimeoutError):
                    async with asyncio.timeout(_GATHER_SECONDS if window.is_working else _GATHER_IDLE_SECONDS):
                        await heard.wait()


async def _is_woken(window: _Window, news: asyncio.Event) -> bool:
    """Wait for a commit or a hint, for as long as a window does without; False where there was none."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_WORKING_SECONDS if window.is_working else _IDLE_SECONDS):
            await news.wait()
    return news.is_set()


@dataclass(slots=True)
class _Window:
    """What one window has been shown."""

    services: Services
    session_id: str
    marks: tuple[Any, ...] | None = None
    position: int | None = None
    told: list[dict[str, Any]] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    signature: Signature | None = None
    draft: str = ""
    is_working: bool = True
    since: str = ""

    async def look(self) -> AsyncIterator[dict[str, Any]]:
        """What is new. What an agent said is told as the ledger has it, before the transcript is put together."""
        marks, waiting, since, position, said = await self.services.central.read(self._read)
        if marks is None:
            raise NotFound("the session is gone")
        if marks != self.marks:
            known = {each["id"] for each in self.told}
            if new := [each for each in said if each["id"] not in known]:
                yield {"type": "entries", "entries": [*self.told, *new]}
            self.told = await transcript(self.services, session=self.session_id)
            yield {"type": "entries", "entries": self.told}
            self.marks, self.position = marks, position
        for each in await self._state(waiting, since):
            yield each

    def _read(self, connection: Queryable) -> tuple[tuple[Any, ...] | None, int, str | None, int, list[dict[str, Any]]]:
        marks = browser_chats.marks(connection, self.session_id)
        if marks == self.marks:
            return marks, *browser_chats.waiting(connection, self.session_id), 0, []
        return (
            marks,
            *browser_chats.waiting(connection, self.session_id),
            *browser_chats.said_behind(connection, self.session_id, self.position),
        )

    async def _state(self, waiting: int, since: str | None) -> list[dict[str, Any]]:
        if not waiting or since is None:
            was_working, self.is_working, self.state, self.draft = self.is_working, False, {}, ""
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

    async def look_at_draft(self) -> list[dict[str, Any]]:
        """What the agent has written since the last look, while nothing was committed."""
        draft = await self._draft()
        if not self.state or draft == self.state["draft"]:
            return []
        return self._shown(self.state | {"draft": draft})

    def _shown(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        self.state = state
        elapsed = (self.services.clock.now() - from_text(self.since)).total_seconds()
        return [{**state, "elapsed_seconds": round(max(0.0, elapsed), 1)}]

    async def _draft(self) -> str:
        """What the agent has written so far, as far as it shows that."""
        agent = self.services.supervisor.agents.get(self.session_id)
        if agent is None:
            return ""
        with suppress(FileTrouble):  # busy or gone at this moment: what was shown last stays
            self.signature, draft = await asyncio.to_thread(outbox.new_draft, agent.folder, self.signature)
            self.draft = self.draft if draft is None else draft
        return self.draft


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
