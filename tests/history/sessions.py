"""Session folders as agents and people fill them, and what history makes of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from host.history.feed import History
from host.history.rebuild import rebuild
from host.sessions import inbox
from host.sessions.folder import Owner, make_data_folder, make_session_folder
from host.sessions.inbox import NewMessage
from shared_schema.layout import DataLayout
from shared_schema.rows import Address, encode

TIME = "2026-02-28T12:00:00.{:03d}Z"
AGENT_GROUP = "agr_000000000000000a"


class Folder:
    """One session's folder. Ids say what they are of: `msg_in_1`, `msg_out_1`, in the order in which they were made."""

    def __init__(self, data: Path, number: int = 1, agent_group_id: str = AGENT_GROUP) -> None:
        self.agent_group_id = agent_group_id
        self.id = f"ses_{number:016x}"
        self.layout = DataLayout(data).session(agent_group_id, self.id)
        make_data_folder(DataLayout(data), Owner.of_agents(10001))
        make_session_folder(self.layout, Owner.of_agents(10001))
        self._count = 0

    def hears(self, text: str, *, kind: str = "chat", sender: str = "ann", name: str = "Ann", chat: str = "one") -> str:
        """Somebody writes; the id of the message."""
        message_id = f"msg_{self.id[-4:]}_in_{self._next()}"
        address = Address("memory", chat, None)
        content = encode({"text": text})
        new = NewMessage(message_id, kind, self._time(), 1, 1, address, sender, name, content)
        inbox.update(self.layout, messages=[new])
        return message_id

    def says(self, text: str, answers: str | None = None, turn: str | None = None, **values: Any) -> str:
        """The agent writes; the id of the message."""
        message_id = f"msg_{self.id[-4:]}_out_{self._next()}"
        row = {"kind": "chat", "content": encode({"text": text}), "generation": 1} | values
        self.writes("messages_out", id=message_id, in_reply_to=answers, turn_id=turn, timestamp=self._time(), **row)
        return message_id

    def steps(self, role: str, content: str | None = None, turn: str = "trn_1", **values: Any) -> None:
        """The agent adds to the transcript."""
        self.writes("steps", turn_id=turn, role=role, content=content, timestamp=self._time(), **values)

    def writes(self, table: str, **values: Any) -> None:
        """The agent writes any row."""
        with closing(sqlite3.connect(self.layout.outbound)) as connection, connection:
            marks = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _time(self) -> str:
        return TIME.format(self._count)


@contextmanager
def history(data: Path, **quota: int) -> Iterator[History]:
    """History without a host: nothing is fed by itself."""
    opened = History(DataLayout(data), **quota)
    try:
        yield opened
    finally:
        opened.close_here()


def everything(path: Path) -> dict[str, list[dict[str, Any]]]:
    """All that a history file holds but the positions, in an order of its own."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        found = {
            "sessions": connection.execute("SELECT * FROM sessions ORDER BY session_id").fetchall(),
            "entries": connection.execute("SELECT * FROM entries ORDER BY session_id, source, seq").fetchall(),
        }
    return {
        name: [{key: value for key, value in dict(row).items() if key != "position"} for row in rows]
        for name, rows in found.items()
    }


def rebuilt(data: Path) -> Path:
    """A history file that was made from the folders."""
    draft = data / "draft.db"
    for _ in rebuild(DataLayout(data), draft):
        pass
    return draft
