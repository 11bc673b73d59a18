"""A host's parts over a registry with one conversation in it, and putting all of it back as it was.

No agents are started: the host is not running, and answers operations all the same.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from host.central import agent_groups, ingest
from host.central.database import Central
from host.central.sessions import Session
from host.channels.memory import MemoryChannel
from host.runtime.absent import AbsentRuntime
from host.services import Services
from host.sessions.folder import Owner, make_data_folder, make_session_folder
from host.settings import Settings
from shared_schema.clock import ManualClock
from shared_schema.layout import DataLayout, SessionLayout
from tests.support.registry import open_central
from tests.unit.registry import NOW, accepted_values, add_agent, add_chat, add_session, wire

T = TypeVar("T")

MESSAGE = "msg_0123456789abcdef"
TURN = "trn_0123456789abcdef"
DESTINATION = "elsewhere"
MAX_TEXT = 1000
MAX_FILE_BYTES = 10_000
OWNER = Owner.of_agents(10001)

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"


@dataclass(frozen=True, slots=True)
class Ledger:
    """The parts of the host and the loop they are used from. `session` has one open message, `MESSAGE`."""

    services: Services
    session: Session
    run: Callable[[Awaitable[Any]], Any]
    _rows: dict[str, list[tuple[Any, ...]]]

    @property
    def layout(self) -> DataLayout:
        """The data folder."""
        return self.services.settings.layout

    @property
    def central(self) -> Central:
        """The open registry."""
        return self.services.central

    @property
    def folder(self) -> SessionLayout:
        """The session's folder."""
        return self.layout.session(self.session.agent_group_id, self.session.id)

    async def version(self) -> int:
        """A number that grows with every change."""
        return await self.central.write(lambda tx: tx.connection.total_changes)

    async def put_back(self) -> None:
        """Make everything as it was at the beginning."""
        await self.central.write(_put_back, self._rows)


@contextmanager
def opened(data: Path) -> Iterator[Ledger]:
    """A registry in a data folder, until the block ends."""
    layout = DataLayout(data)
    make_data_folder(layout, OWNER)
    clock = ManualClock()
    with asyncio.Runner() as runner:
        central = open_central(layout.central, clock)
        try:
            session = runner.run(central.write(_fill))
            make_session_folder(layout.session(session.agent_group_id, session.id), OWNER)
            rows = runner.run(central.read(_everything))
            services = runner.run(_services(data, clock, central))
            runner.run(services.terminal.start(services.router.ingest))
            yield Ledger(services, session, lambda work: runner.run(_awaited(work)), rows)
        finally:
            central.close()


async def _services(data: Path, clock: ManualClock, central: Central) -> Services:
    """The services, made in the loop that they hand on to."""
    return Services(_settings(data), clock, central, AbsentRuntime(), "", lambda c, k: [MemoryChannel()])


def _settings(data: Path) -> Settings:
    chosen: dict[str, Any] = {"data": data, "runtime": "process"}
    return Settings(**chosen, max_text=MAX_TEXT, max_files=3, max_file_bytes=MAX_FILE_BYTES)


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def _fill(connection: sqlite3.Connection) -> Session:
    agent, other = add_agent(connection), add_agent(connection, "other")
    chat, elsewhere = add_chat(connection), add_chat(connection, "two")
    terminal = add_chat(connection, "terminal", channel_type="cli", is_group=False)
    wire(connection, chat, agent)
    wire(connection, elsewhere, other, session_mode="per-thread", per_user=True, engage="pattern", pattern="^he.*o")
    wire(connection, terminal, agent)
    agent_groups.add_destination(connection, agent.id, DESTINATION, elsewhere.id, NOW)
    session = add_session(connection, agent)
    ingest.accept(connection, accepted_values(session, message_id=MESSAGE, platform_message_id="first"))
    ingest.mark_written(connection, [MESSAGE])
    return session


def _everything(connection: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    names = [row["name"] for row in connection.execute(TABLES)]
    return {name: [tuple(row) for row in connection.execute(f"SELECT * FROM {name}")] for name in names}


def _put_back(connection: sqlite3.Connection, rows: dict[str, list[tuple[Any, ...]]]) -> None:
    connection.execute("PRAGMA defer_foreign_keys = ON")
    for name in rows:
        connection.execute(f"DELETE FROM {name}")
    for name, wanted in rows.items():
        if wanted:
            marks = ", ".join("?" * len(wanted[0]))
            connection.executemany(f"INSERT INTO {name} VALUES ({marks})", wanted)
