"""Hooks: where events are posted to, how far each has got, and how it goes.

A hook's queue is the table of events itself, from its position on: nothing is copied, and what was told before a
restart and not sent is sent after it. That table keeps the newest events; a hook that is behind it has missed some.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from host.central.database import Queryable, Transaction, one
from shared_schema import json_text
from shared_schema.dataclass import dataclass
from shared_schema.rows import Row

INSERT = """
INSERT INTO hooks (id, name, url, secret, kinds, agent_group_id, position, created_at)
VALUES (:id, :name, :url, :secret, :kinds, :agent_group_id, :position, :created_at)
"""
_COLUMNS = """
SELECT h.*, a.name AS agent_group,
    (SELECT count(*) FROM (SELECT 1 FROM events e WHERE e.number > h.position
        AND (h.kinds = '[]' OR e.kind IN (SELECT value FROM json_each(h.kinds)))
        AND (h.agent_group_id IS NULL OR e.agent_group_id = h.agent_group_id) LIMIT 10000)) AS waiting
FROM hooks h LEFT JOIN agent_groups a ON a.id = h.agent_group_id
"""
ALL = f"{_COLUMNS} ORDER BY h.name LIMIT 100"
BY_NAME = f"{_COLUMNS} WHERE h.name = ?"
# What posts asks often, and looks at the events themselves.
BY_ID = """
SELECT h.*, a.name AS agent_group, 0 AS waiting FROM hooks h LEFT JOIN agent_groups a ON a.id = h.agent_group_id
WHERE h.id = ?
"""
IDS = "SELECT id FROM hooks ORDER BY id LIMIT 100"
COUNT = "SELECT count(*) AS n FROM hooks"
DELETE = "DELETE FROM hooks WHERE name = ?"
OLDEST = "SELECT min(number) AS number FROM events"
PASSED = "UPDATE hooks SET position = :number, missed = missed + :missed WHERE id = :id AND position < :number"
DELIVERED = """
UPDATE hooks SET position = :number, delivered = delivered + 1, attempts = 0, next_at = NULL, last_error = NULL,
    last_delivered_at = :now
WHERE id = :id AND position < :number
"""
FAILED = "UPDATE hooks SET attempts = :attempts, next_at = :next_at, last_error = :error WHERE id = :id"
GIVEN_UP = """
UPDATE hooks SET position = :number, missed = missed + 1, attempts = 0, next_at = NULL, last_error = :error
WHERE id = :id AND position < :number
"""

MOST = 100
_LONGEST_ERROR = 300


@dataclass(frozen=True, slots=True)
class EventHook(Row):
    """One place where events are posted to. `waiting` is how many events it has still to get."""

    id: str
    name: str
    url: str
    secret: str
    kinds: str
    agent_group_id: str | None
    agent_group: str | None
    position: int
    attempts: int
    next_at: str | None
    last_error: str | None
    delivered: int
    missed: int
    last_delivered_at: str | None
    created_at: str
    waiting: int

    @property
    def of_kinds(self) -> list[str]:
        """The kinds of events it is told; empty: all."""
        found: list[str] = json_text.parse(self.kinds)
        return found

    def wants(self, kind: str, agent_group_id: str | None) -> bool:
        """Whether it is told an event."""
        of_kinds = self.of_kinds
        is_of_group = self.agent_group_id is None or self.agent_group_id == agent_group_id
        return is_of_group and (not of_kinds or kind in of_kinds)


def add(
    tx: Transaction,
    *,
    hook_id: str,
    name: str,
    url: str,
    secret: str,
    kinds: Sequence[str],
    agent_group_id: str | None,
    position: int,
) -> None:
    """Keep a new hook, which is told the events behind a position."""
    values = {
        "id": hook_id,
        "name": name,
        "url": url,
        "secret": secret,
        "kinds": json.dumps(list(kinds)),
        "agent_group_id": agent_group_id,
        "position": position,
        "created_at": tx.now,
    }
    tx.execute(INSERT, values)


def all_of(connection: Queryable) -> list[EventHook]:
    """All hooks, by name."""
    return [EventHook.from_row(row) for row in connection.execute(ALL)]


def ids(connection: Queryable) -> list[str]:
    """The ids of all hooks."""
    return [row["id"] for row in connection.execute(IDS)]


def count(connection: Queryable) -> int:
    """How many there are."""
    row = one(connection, COUNT)
    return 0 if row is None else int(row["n"])


def find(connection: Queryable, name: str) -> EventHook | None:
    """The hook of that name."""
    row = one(connection, BY_NAME, (name,))
    return None if row is None else EventHook.from_row(row)


def by_id(connection: Queryable, hook_id: str) -> EventHook | None:
    """The hook with that id, without what waits for it."""
    row = one(connection, BY_ID, (hook_id,))
    return None if row is None else EventHook.from_row(row)


def remove(tx: Transaction, name: str) -> bool:
    """Forget a hook; whether there was one."""
    return tx.execute(DELETE, (name,)).rowcount > 0


def oldest_event(connection: Queryable) -> int | None:
    """The number of the oldest event that is kept."""
    row = one(connection, OLDEST)
    return None if row is None else row["number"]


def passed(tx: Transaction, hook_id: str, number: int, missed: int = 0) -> None:
    """Note that a hook has nothing to be told up to a number; `missed` of these are gone."""
    tx.execute(PASSED, {"id": hook_id, "number": number, "missed": missed})


def delivered(tx: Transaction, hook_id: str, number: int) -> None:
    """Note that a hook has an event."""
    tx.execute(DELIVERED, {"id": hook_id, "number": number, "now": tx.now})


def failed(tx: Transaction, hook_id: str, attempts: int, next_at: str, error: str) -> None:
    """Note that a hook did not take an event, which is tried again."""
    values = {"id": hook_id, "attempts": attempts, "next_at": next_at, "error": error[:_LONGEST_ERROR]}
    tx.execute(FAILED, values)


def given_up(tx: Transaction, hook_id: str, number: int, error: str) -> None:
    """Note that a hook will not get an event."""
    tx.execute(GIVEN_UP, {"id": hook_id, "number": number, "error": error[:_LONGEST_ERROR]})
