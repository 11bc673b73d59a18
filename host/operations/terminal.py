"""The prompt of the terminal: with whom it talks, sending, and a stream of all that it should show.

Invariants: every terminal that shows a conversation shows all of it, also what was typed at another; what no terminal
shows is shown by the next one, once; an agent's draft is only shown, what counts is the message that follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import field
from datetime import timedelta
from pathlib import Path
from typing import Any

from host.central import (
    agent_groups,
    deliveries,
    ingest,
    mailbox,
    session_list,
)
from host.central import sessions as session_table
from host.central.agent_groups import AgentGroup
from host.central.database import Queryable
from host.central.ingest import AcceptedMessage
from host.central.mailbox import Letter
from host.central.session_list import Filter
from host.channels.cli import CHANNEL_TYPE, PLATFORM_ID
from host.operations import partner as partners
from host.operations import readiness
from host.routing import commands
from host.routing.event import Event
from host.services import Services
from host.sessions import outbox
from host.sessions.attachments import Attachment
from host.sessions.outbox import Signature
from host.sessions.transitions import ASKED_AGAIN
from shared_schema.clock import from_text, to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileTrouble, InvalidValue, NotFound
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address, AgentPhase, MessageInStatus, decode

_TYPIST = "terminal"
"""The sender of what is typed at a terminal."""
TERMINAL = f"{CHANNEL_TYPE}:{PLATFORM_ID}"
_WORKING_SECONDS = 0.4
_IDLE_SECONDS = 5.0
_GATHER_SECONDS = 0.02
_LEFT_ALONE = timedelta(seconds=2)
"""A letter that no terminal of its own agent has shown by then is shown by any that is open."""
_TITLES = 50


async def open_terminal(
    services: Services, *, agent_group: str | None = None, session: str | None = None
) -> dict[str, Any]:
    """Who will answer, and what can be completed. Raises `NotFound`, and `Conflict` where several agents would answer.

    `agent_group`, `provider`, `model`, `runtime`, `session_id` and `title` (None before the first message), `agents`
    and `titles` for completion, and what the agent lacks before it can answer, as sentences (`lacking`).
    """

    def load(connection: Queryable) -> dict[str, Any]:
        partner = partners.of_prompt(connection, agent_group, session)
        mine = Filter(agent_group_id=partner.group.id)
        titles = [row["title"] for row in session_list.page(connection, mine, limit=_TITLES) if row["title"]]
        return {
            "agent_group": partner.group.name,
            "provider": partner.group.provider,
            "model": partner.group.model,
            "runtime": services.runtime.name,
            "session_id": None if partner.session is None else partner.session.id,
            "title": None if partner.session is None else partner.session.title,
            "agents": [group.name for group in agent_groups.all_groups(connection)],
            "titles": titles,
        }

    opened = await services.central.read(load)
    return opened | {"lacking": await readiness.lacking(services, name=opened["agent_group"])}


async def send(
    services: Services,
    *,
    text: str,
    agent_group: str | None = None,
    session: str | None = None,
    files: list[str] | None = None,
    platform_message_id: str | None = None,
) -> dict[str, Any]:
    """Send what a person typed; its answers come with `follow`. The same `platform_message_id` is taken once.

    Returns message_id, session_id, agent_group, and whether the host itself answers (`command`).
    """
    if not text.strip() and not files:
        raise InvalidValue("the message is empty", hint="type something, or attach a file with @PATH")
    partner = await services.central.read(partners.of_prompt, agent_group, session)
    pinned = partner.session if partner.is_pinned else None
    receipt = await services.terminal.send(
        Event(
            address=Address(CHANNEL_TYPE, PLATFORM_ID),
            platform_message_id=platform_message_id or new_id(Prefix.MESSAGE),
            text=text,
            sender_id=_TYPIST,
            is_mention=True,
            attachments=tuple(Attachment(Path(file).name, Path(file)) for file in files or []),
            agent_group=partner.group.name if pinned is None else None,
            session_id=None if pinned is None else pinned.id,
        )
    )
    if not receipt.accepted:
        hint = partners.how_to_wire(partner.group.name)
        raise NotFound(f"no agent took the message: {receipt.dropped}", hint=hint)
    accepted = receipt.accepted[0]
    return {
        "message_id": accepted.message_id,
        "session_id": accepted.session_id,
        "agent_group": accepted.agent_group,
        "command": commands.parse(text) is not None and not files,
    }


async def follow(
    services: Services, *, agent_group: str | None = None, session: str | None = None, after: int | None = None
) -> AsyncIterator[dict[str, Any]]:
    """All that a terminal should show, from now on and without end. Behind letter `after`, where one was shown before.

    `message`: position, agent_group, session_id, text, files, from_host, command (the answer to one), question,
    created_at, late (it lay there before this stream began, or belongs to another agent).
    `said`: message_id, platform_message_id, session_id, text, files (names), how (`typed` at any terminal of this
    agent, asked `again` by /retry, or from `elsewhere`).
    `working`: session_id, elapsed_seconds, waiting (messages), phase, tool, draft: sent when it changes.
    `idle`: the agent has nothing left to answer here.
    `done`: message_id, status, error: a message got its outcome, after all its answers.
    """
    view = _View(services, (await services.central.read(partners.of_prompt, agent_group, session)).group)
    with services.dispatcher.following() as news:
        for entry in await view.begin(after):
            yield entry
        while True:
            news.clear()
            for entry in await view.look():
                yield entry
            with suppress(TimeoutError):
                async with asyncio.timeout(view.patience):
                    await news.wait()
                    await asyncio.sleep(_GATHER_SECONDS)


@dataclass(slots=True)
class _View:
    """What one terminal has been shown."""

    services: Services
    group: AgentGroup
    letter: int = 0
    said: int = 0
    open: dict[str, AcceptedMessage] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    signature: Signature | None = None
    draft: str = ""
    has_strange: bool = False

    @property
    def patience(self) -> float:
        """How long nothing new is waited for."""
        if self.open:
            return _WORKING_SECONDS
        return _LEFT_ALONE.total_seconds() if self.has_strange else _IDLE_SECONDS

    async def begin(self, after: int | None) -> list[dict[str, Any]]:
        """Returns what lies there already: all that is unread; after an interruption what this one has missed."""
        terminal, central = self.services.terminal, self.services.central
        self.said = await central.read(ingest.newest)
        self.letter = await central.read(mailbox.newest) if after is None else after
        if after is not None:
            return []
        return await self._shown(await terminal.collect(PLATFORM_ID), late=True)

    async def look(self) -> list[dict[str, Any]]:
        """What is new, in the order in which it should be shown."""
        central = self.services.central
        said, now_open = await central.read(self._typed)
        letters = await self.services.terminal.read(await central.read(self._mine))
        strange = await central.read(self._strange)
        entries = [_said(row) for row in said]
        entries += await self._shown(letters, late=False)
        entries += await self._shown(await self.services.terminal.read(strange), late=True)
        self.open |= {row.message_id: row for row in now_open}
        entries += await central.read(self._done)
        return [*entries, *await self._state()]

    def _typed(self, connection: Queryable) -> tuple[list[AcceptedMessage], list[AcceptedMessage]]:
        rows = ingest.said_in_chat(connection, CHANNEL_TYPE, PLATFORM_ID, self.said)
        if rows:
            self.said = rows[-1].position
        mine = [row for row in rows if row.agent_group_id == self.group.id]
        return mine, ingest.open_in_chat(connection, CHANNEL_TYPE, PLATFORM_ID, self.group.id)

    def _mine(self, connection: Queryable) -> list[Letter]:
        letters = mailbox.behind(connection, PLATFORM_ID, self.letter)
        if letters:
            self.letter = letters[-1].position
        return [letter for letter in letters if self._is_mine(connection, letter)]

    def _strange(self, connection: Queryable) -> list[Letter]:
        """Letters of other agents that their own terminals, if there are any, have left alone."""
        before = to_text(self.services.clock.now() - _LEFT_ALONE)
        letters = [
            letter
            for letter in mailbox.unread(connection, PLATFORM_ID)
            if letter.position <= self.letter and not self._is_mine(connection, letter)
        ]
        due = [letter for letter in letters if letter.created_at <= before]
        self.has_strange = len(due) < len(letters)
        return due

    def _is_mine(self, connection: Queryable, letter: Letter) -> bool:
        session = session_table.lookup(connection, letter.session_id)
        return session is not None and session.agent_group_id == self.group.id

    def _done(self, connection: Queryable) -> list[dict[str, Any]]:
        """What got its outcome, once everything that answers it has been sent."""
        entries = []
        for message_id, before in list(self.open.items()):
            row = ingest.get(connection, message_id)
            if row is not None and row.status == MessageInStatus.PENDING:
                continue
            if row is not None and not deliveries.is_answer_out(connection, str(before.session_id), message_id):
                continue
            if row is not None and row.session_id is not None and self._has_letters(connection):
                continue  # its answer has just been put in: the next look shows it first
            del self.open[message_id]
            status, error = (MessageInStatus.CANCELLED, None) if row is None else (row.status, row.error)
            entries.append({"type": "done", "message_id": message_id, "status": str(status), "error": error})
        return entries

    def _has_letters(self, connection: Queryable) -> bool:
        return bool(mailbox.behind(connection, PLATFORM_ID, self.letter, limit=1))

    async def _shown(self, letters: list[Letter], *, late: bool) -> list[dict[str, Any]]:
        if not letters:
            return []
        return await self.services.central.read(lambda c: [_letter(c, letter, late=late) for letter in letters])

    async def _state(self) -> list[dict[str, Any]]:
        """How it stands with what is open, when that has changed."""
        if not self.open:
            was_working, self.state, self.draft = bool(self.state), {}, ""
            return [{"type": "idle"}] if was_working else []
        first = next(iter(self.open.values()))
        session_id = str(first.session_id)
        agent = self.services.supervisor.agents.get(session_id)
        doing = None if agent is None else agent.doing
        state = {
            "type": "working",
            "session_id": session_id,
            "waiting": len(self.open),
            "phase": "starting" if agent is None else doing if doing in set(AgentPhase) else str(AgentPhase.WORKING),
            "tool": None if doing in set(AgentPhase) else doing,
            "draft": await self._draft(session_id),
        }
        if state == self.state:
            return []
        self.state = state
        elapsed = (self.services.clock.now() - from_text(first.accepted_at)).total_seconds()
        return [{**state, "elapsed_seconds": round(max(0.0, elapsed), 1)}]

    async def _draft(self, session_id: str) -> str:
        """What the agent has written so far, as far as it shows that."""
        agent = self.services.supervisor.agents.get(session_id)
        if agent is None:
            return ""
        with suppress(FileTrouble):  # busy or gone at this moment: what was shown last stays
            signature = await asyncio.to_thread(outbox.signature, agent.folder)
            if signature != self.signature:
                self.draft = await asyncio.to_thread(outbox.draft, agent.folder)
                self.signature = signature
        return self.draft


def _letter(connection: Queryable, letter: Letter, *, late: bool) -> dict[str, Any]:
    content = decode(letter.content)
    session = session_table.lookup(connection, letter.session_id)
    group = None if session is None else agent_groups.by_id(connection, session.agent_group_id)
    asked = None if letter.in_reply_to is None else ingest.get(connection, letter.in_reply_to)
    return {
        "type": "message",
        "position": letter.position,
        "agent_group": None if group is None else group.name,
        "session_id": letter.session_id,
        "in_reply_to": letter.in_reply_to,
        "text": content.get("text", ""),
        "files": content.get("files", []),
        "from_host": content.get("from_host", False),
        "command": asked is not None and asked.kind == ingest.COMMAND,
        "question": content.get("kind") == "question",
        "created_at": letter.created_at,
        "late": late,
    }


def _said(row: AcceptedMessage) -> dict[str, Any]:
    content = decode(row.content)
    files = content.get("files")
    names = [str(file.get("name", "")) for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    is_again = (row.platform_message_id or "").startswith(ASKED_AGAIN)
    return {
        "type": "said",
        "message_id": row.message_id,
        "platform_message_id": row.platform_message_id,
        "session_id": row.session_id,
        "text": str(content.get("text", "")),
        "files": names,
        "how": "again" if is_again else "typed" if row.sender_id == _TYPIST else "elsewhere",
    }
