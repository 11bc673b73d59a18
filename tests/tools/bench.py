"""A turn for tools to work in: a bare session's real files, and an output that writes rows as the agent does."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from time import monotonic
from typing import Any

from container_agent.context import SessionContext
from container_agent.inbox import Inbox
from container_agent.prompt.skills import Skill
from container_agent.providers.protocol import Reply, Step, TurnRequest
from container_agent.tools.background import BackgroundProcesses
from container_agent.tools.choose import toolbox
from container_agent.tools.servers import Servers
from container_agent.tools.tool_context import ToolContext
from container_agent.tools.toolbox import Toolbox
from container_agent.tools.turn_inbox import TurnInbox
from shared_schema.clock import SystemClock, to_text
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import MessageIn, encode
from tests.agent.session import BareSession


class Recorder:
    """A `TurnOutput` that remembers what it is given, and writes messages with plain SQLite."""

    turn_inbox: TurnInbox
    deadline: float
    at_end: AsyncExitStack

    def __init__(self, session: BareSession) -> None:
        self._session = session
        self.sent: list[Reply] = []
        self.named: list[tuple[str | None, float | None]] = []

    async def send(self, reply: Reply) -> str:
        message_id = new_id(Prefix.MESSAGE)
        details: Mapping[str, object] = getattr(reply, "details", {})
        content = encode({"text": reply.text, **details})
        with closing(sqlite3.connect(self._session.layout.outbound, isolation_level=None)) as connection:
            connection.execute(
                "INSERT INTO messages_out (id, in_reply_to, generation, timestamp, kind, destination, content)"
                " VALUES (?, ?, 1, ?, ?, ?, ?)",
                (
                    message_id,
                    reply.in_reply_to,
                    to_text(SystemClock().now()),
                    reply.kind,
                    reply.destination,
                    content,
                ),
            )
        self.sent.append(reply)
        return message_id

    def append_steps(self, steps: Sequence[Step]) -> None:
        raise AssertionError("tools add no steps")

    def set_tool(self, name: str | None, seconds: float | None = None) -> None:
        self.named.append((name, seconds))


class Turn:
    """One turn over one message, with its tools."""

    def __init__(
        self,
        session: BareSession,
        said: str = "begin",
        *,
        message_id: str | None = None,
        seconds: float = 1800,
        tool_servers: str = "",
    ) -> None:
        self.session = session
        self.message_id = message_id or session.say(said)
        self.out = Recorder(session)
        self.taken: list[MessageIn] = []
        snapshot = Inbox(session.layout.inbound, lambda ids: set()).read()
        self.request = TurnRequest(
            messages=tuple(message for message in snapshot.pending if message.id == self.message_id),
            context=SessionContext(turn_seconds=seconds, tool_servers=tool_servers),
            destinations=snapshot.destinations,
            workspace=session.workspace,
            session=session.layout,
        )
        self.turn_inbox = TurnInbox(
            session.layout.inbound,
            session.layout.outbound,
            generation=1,
            acknowledged=lambda ids: {self.message_id, *(message.id for message in self.taken)} & set(ids),
            take=self.taken.append,
            poll_seconds=0.02,
        )
        self.at_end = AsyncExitStack()
        self.noted: list[str] = []
        self.processes = BackgroundProcesses(self.noted.append)
        self.tool_context = ToolContext(self.request, self.out, self.turn_inbox, monotonic() + seconds, self.at_end)
        self.out.turn_inbox, self.out.deadline, self.out.at_end = (
            self.turn_inbox,
            self.tool_context.deadline,
            self.at_end,
        )

    async def tools(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        skills: Sequence[Skill] = (),
        servers: Servers | None = None,
        brings_own: bool = False,
    ) -> Toolbox:
        """All its tools."""
        foreign = () if servers is None else await servers.tools()
        return toolbox(
            self.tool_context,
            SystemClock(),
            environment or {},
            self.processes,
            skills=skills,
            foreign=foreign,
            brings_own=brings_own,
        )

    def answer(self, to: str, **content: object) -> None:
        """The host answers a message of ours."""
        self.session.say_all(
            [""], kind="system", trigger=0, status="completed", content=encode({"answer_to": to, **content})
        )

    def out_rows(self) -> list[dict[str, Any]]:
        """What went out, with its content as an object."""
        return [
            row | {"content": json.loads(row["content"])}
            for row in self.session.out("SELECT * FROM messages_out ORDER BY seq")
        ]


def destination(session: BareSession, name: str, chat: str) -> None:
    """The host allows a destination."""
    session.write(
        "INSERT INTO destinations (name, display_name, type, channel_type, platform_id) VALUES (?, ?, ?, ?, ?)",
        (name, name.title(), "messaging_group", "cli", chat),
    )


def write(path: Path, text: str) -> Path:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path
