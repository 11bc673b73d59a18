"""What the host keeps of a session in `central.db`, and when that is enough.

An agent writes small rows, and each becomes several larger ones here: turns, usage, events, deliveries. So they are
counted, by what they cost the host and not the agent, in all and in each hour.
"""

from __future__ import annotations

import sqlite3

from host.central import deliveries
from host.central.database import Queryable, Transaction
from shared_schema.dataclass import dataclass

COUNTED = """
SELECT kept_rows, kept_bytes, kept_hour, kept_hour_rows, kept_hour_bytes FROM sessions WHERE id = ?
"""
COUNT = """
UPDATE sessions SET kept_rows = ?, kept_bytes = ?, kept_hour = ?, kept_hour_rows = ?, kept_hour_bytes = ? WHERE id = ?
"""
# As the index has it: what is smaller is no large session.
LARGEST = """
SELECT id AS session_id, kept_rows AS rows, kept_bytes AS bytes FROM sessions INDEXED BY sessions_by_size
WHERE kept_bytes >= 65536 ORDER BY kept_bytes DESC LIMIT ?
"""
ROW_BYTES = 600
"""What a row costs beside its content: its columns, and its places in indexes. Measured: 400 to 700."""

_HOUR = 13  # characters of a stored time up to its hour


@dataclass(frozen=True, slots=True)
class Quota:
    """The most that is kept of one session: rows and bytes, in all and in an hour; and how much may wait to be sent."""

    rows: int = 1_000_000
    bytes: int = 2 * 1024**3
    hour_rows: int = 100_000
    hour_bytes: int = 256 * 1024**2
    waiting: int = 1_000


DEFAULT = Quota()


class Kept:
    """The count of one session in one transaction. `load` it, `add` what is taken, and `store` it at the end."""

    def __init__(self, quota: Quota, now: str, row: sqlite3.Row) -> None:
        is_same_hour = row["kept_hour"] == now[:_HOUR]
        self.quota = quota
        self._hour = now[:_HOUR]
        self._rows, self._bytes = row["kept_rows"], row["kept_bytes"]
        self._hour_rows = row["kept_hour_rows"] if is_same_hour else 0
        self._hour_bytes = row["kept_hour_bytes"] if is_same_hour else 0
        self._changed = False
        self._waiting: int | None = None

    @classmethod
    def load(cls, connection: Queryable, session_id: str, quota: Quota, now: str) -> Kept:
        """What was kept of a session so far. The session must exist."""
        return cls(quota, now, connection.execute(COUNTED, (session_id,)).fetchone())

    def refusal(self) -> str | None:
        """Why nothing more is taken, as a sentence for people; None when something is."""
        quota = self.quota
        if self._rows >= quota.rows or self._bytes >= quota.bytes:
            most = f"{quota.rows:,} rows or {quota.bytes // 1024**2:,} MiB"
            return f"this conversation has grown to all that the host keeps of one ({most}); /new begins another"
        if self._hour_rows >= quota.hour_rows or self._hour_bytes >= quota.hour_bytes:
            most = f"{quota.hour_rows:,} rows or {quota.hour_bytes // 1024**2:,} MiB"
            return f"the agent has written more than the host keeps of a session in an hour ({most})"
        return None

    def may_wait(self, connection: Queryable, session_id: str) -> bool:
        """Whether one more message of the session may wait to be sent; it does, then. Counted once at a look."""
        if self._waiting is None:
            self._waiting = deliveries.waiting_count(connection, session_id, self.quota.waiting)
        self._waiting += 1
        return self._waiting <= self.quota.waiting

    def add(self, rows: int, content: int) -> None:
        """So many rows were taken, with so many bytes or characters of content in all."""
        size = rows * ROW_BYTES + content
        self._rows += rows
        self._bytes += size
        self._hour_rows += rows
        self._hour_bytes += size
        self._changed = True

    @property
    def values(self) -> tuple[int, int, str, int, int]:
        """Rows and bytes in all, the hour, and rows and bytes in it."""
        return self._rows, self._bytes, self._hour, self._hour_rows, self._hour_bytes

    def store(self, tx: Transaction, session_id: str) -> None:
        """Note it, where something was taken."""
        if self._changed:
            values = (self._rows, self._bytes, self._hour, self._hour_rows, self._hour_bytes, session_id)
            tx.execute(COUNT, values)


def largest(connection: Queryable, limit: int = 5) -> list[sqlite3.Row]:
    """The sessions of which most is kept, from 64 KiB on: `session_id, rows, bytes`."""
    return connection.execute(LARGEST, (limit,)).fetchall()
