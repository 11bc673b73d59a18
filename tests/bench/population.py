"""Many sessions in a data folder, quickly: real files and real rows, copied from sessions that the product made.

One conversation is really held; its rows are multiplied within SQL, in the session's files and in the ledger, and then
copied. Only the ids differ from one session to the next.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from host.central import agent_groups, messaging_groups, routes
from host.central.database import Central
from host.central.messaging_groups import Engage, MessagingGroup, SessionMode, Wiring
from host.history.reading import Cursors, signature
from host.history.record import Record
from host.history.store import State, set_state
from host.routing.route_key import route_key
from host.sessions.folder import Owner, make_data_folder, make_session_folder
from shared_schema.clock import SystemClock, to_text
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import DataLayout, SessionLayout
from shared_schema.rows import Address
from tests.bench.workbench import Workbench
from tests.support.transaction import at

HISTORY = 1000
"""Messages in a session with a history; as many answers, acknowledgements and turns, and twice as many steps."""

SPOKEN = 40
_IDS = {  # of each table that grows with a conversation, the columns that differ in every row
    "messages_in": ("id",),
    "delivered": ("message_out_id",),
    "messages_out": ("id",),
    "processing_ack": ("message_id",),
    "turns": ("id",),
    "steps": (),
    "ingest": ("message_id", "platform_message_id"),
    "deliveries": ("message_out_id",),
}
_INBOUND = ("messages_in", "delivered")
OUTBOUND = ("messages_out", "processing_ack", "turns", "steps")
_LEDGER = ("ingest", "deliveries", "turns")
_GROUPED = 1000  # sessions of one agent group


@dataclass(frozen=True, slots=True)
class Conversation:
    """One session with a history: its folder, and the central.db that knows it alone."""

    layout: SessionLayout
    central: Path

    def grow(self, rows: int) -> None:
        """Multiply what was said until there are so many messages."""
        for path, tables in (
            (self.layout.inbound, _INBOUND),
            (self.layout.outbound, OUTBOUND),
            (self.central, _LEDGER),
        ):
            with quick(path) as connection:
                for table in tables:
                    grow(connection, table, rows * 2 if table == "steps" else rows)


def converse(bench: Workbench) -> Conversation:
    """Hold a conversation with a real agent."""

    async def talk() -> Conversation:
        async with bench.host("process") as host:
            for number in range(SPOKEN):
                await host.round_trip(f"message {number} " + "of a usual length " * 5)
            await host.settled()
            return Conversation(await host.session(), host.services.settings.layout.central)

    return asyncio.run(talk())


class Population:
    """A data folder with sessions. No host may run while they are changed."""

    def __init__(self, data: Path) -> None:
        make_data_folder(DataLayout(data), Owner.of_agents(10001))
        self.layout = DataLayout(data)
        self.folders: list[SessionLayout] = []
        self._empty = SessionLayout(data.with_name(f"{data.name}-empty"))
        make_session_folder(self._empty, Owner.of_agents(10001))
        Central.open(self.layout.central, SystemClock()).close()

    def add_sessions(self, count: int) -> None:
        """So many more sessions, each with a chat of its own, in which nobody has said anything yet."""
        now = to_text(SystemClock().now())
        added = []
        with quick(self.layout.central) as connection:
            for number in range(len(self.folders), len(self.folders) + count):
                if number % _GROUPED == 0:
                    name = f"group-{number // _GROUPED}"
                    agent_groups.insert(connection, agent_groups.new_agent_group(name, created_at=now, provider="echo"))
                group = agent_groups.get_by_name(connection, f"group-{number // _GROUPED}")
                added.append(self.layout.session(group.id, _session(connection, group.id, f"chat-{number}", now)))
        for folder in added:
            shutil.copytree(self._empty.folder, folder.folder, symlinks=True)
        self.folders += added

    def give_history(self, conversation: Conversation) -> None:
        """All sessions there are get what was said in the conversation: in their files and in the ledger."""
        for folder in self.folders:
            _copy_files(conversation.layout, folder)
        with quick(self.layout.central, attach=conversation.central) as connection:
            for table in _LEDGER:
                _copy_ledger(connection, table, [folder.folder.name for folder in self.folders])

    def note_as_read(self) -> None:
        """History has read all there is (its texts are left out): a host that starts finds nothing new."""
        record = Record(self.layout.history, lambda: None)

        def store_all(connection: sqlite3.Connection) -> None:
            for folder in self.folders:
                state = State(folder.folder.parent.name, signature(folder), Cursors())
                set_state(connection, folder.folder.name, state)

        record.write(store_all)
        record.close()

    def forget_history(self) -> None:
        """All sessions are as new again."""
        for folder in self.folders:
            _copy_files(self._empty, folder)
        with quick(self.layout.central) as connection:
            for table in _LEDGER:
                connection.execute(f"DELETE FROM {table}")


@contextmanager
def quick(path: Path, *, attach: Path | None = None) -> Iterator[sqlite3.Connection]:
    """One transaction on a file that nobody uses, without the flushes that make it safe: the file is thrown away."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "secure_delete = OFF", "cache_size = -400000"):
            connection.execute(f"PRAGMA {pragma}")
        if attach is not None:
            connection.execute("ATTACH ? AS said", (str(attach),))
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = DELETE")


def grow(connection: sqlite3.Connection, table: str, rows: int) -> None:
    """Repeat the rows of a table, with new ids, until there are so many."""
    present = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    assert present, f"{table} has no row to repeat"
    columns = _columns(connection, table)
    ids = {name: f"substr({name}, 1, 4) || printf('%016x', n.value * {present} + nth)" for name in _IDS[table]}
    connection.execute(
        f"""
        WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value * {present} < {rows})
        INSERT INTO {table} ({", ".join(columns)})
        SELECT {", ".join(ids.get(name, name) for name in columns)}
        FROM n, (SELECT *, row_number() OVER () AS nth FROM {table})
        LIMIT {max(0, rows - present)}
        """
    )


def _copy_ledger(connection: sqlite3.Connection, table: str, session_ids: Sequence[str]) -> None:
    """The ledger's rows of the one conversation, once for each session: the id's first half says which."""
    columns = _columns(connection, table)
    values = {name: f"substr({name}, 1, 4) || printf('%08x', :number) || substr({name}, 13)" for name in _IDS[table]}
    values["session_id"] = ":session_id"
    connection.executemany(
        f"""
        INSERT INTO main.{table} ({", ".join(columns)})
        SELECT {", ".join(values.get(name, name) for name in columns)} FROM said.{table}
        """,
        [{"number": number, "session_id": session_id} for number, session_id in enumerate(session_ids)],
    )


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """All columns but those whose numbers SQLite gives."""
    return [
        row["name"]
        for row in connection.execute(f"PRAGMA main.table_info({table})")
        if not (row["pk"] and row["type"] == "INTEGER")
    ]


def _copy_files(source: SessionLayout, target: SessionLayout) -> None:
    for path, copy in ((source.inbound, target.inbound), (source.outbound, target.outbound)):
        shutil.copyfile(path, copy)


def _session(connection: sqlite3.Connection, agent_group_id: str, chat: str, now: str) -> str:
    """A chat, wired to the agent group, and its session; the session's id."""
    mode, address = SessionMode.SHARED, Address("cli", chat)
    group = MessagingGroup(new_id(Prefix.MESSAGING_GROUP), address.channel_type, chat, None, 1, now)
    messaging_groups.insert(connection, group)
    wiring = Wiring(new_id(Prefix.WIRING), group.id, agent_group_id, mode, 0, Engage.ALL, None, now)
    messaging_groups.wire(connection, wiring)
    return routes.resolve(
        at(connection, now),
        agent_group_id=agent_group_id,
        route_key=route_key(mode, address, agent_group_id=agent_group_id, per_user=False, sender_id=None),
        messaging_group_id=group.id,
        thread_id=None,
    ).id
