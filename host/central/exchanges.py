"""Exchanges: what somebody wrote and what was answered, in the units in which it can be taken back.

One turn may answer several messages. What is taken back is whole turns, so an exchange is the messages that one turn
took, those it only heard among them; a message that no turn took is one by itself.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from host.central.database import one
from host.central.ingest import Accepted

# The first and last message of each exchange, the newest first.
ALL = """
SELECT min(position) AS first, max(position) AS last FROM ingest
WHERE session_id = ? AND kind = 'chat' AND withdrawn = 0
GROUP BY coalesce(turn_id, message_id) HAVING max(trigger) = 1 ORDER BY last DESC
"""
OLDEST_OPEN = """
SELECT min(position) AS position FROM ingest INDEXED BY ingest_open
WHERE session_id = ? AND status = 'pending' AND kind = 'chat'
"""
FROM = (
    "SELECT * FROM ingest WHERE session_id = ? AND position >= ? AND withdrawn = 0 AND kind = 'chat' ORDER BY position"
)
WITHDRAW = "UPDATE ingest SET withdrawn = 1 WHERE session_id = ? AND position >= ? AND kind = 'chat'"
WITHDRAW_TURNS = """
UPDATE turns SET withdrawn = 1
WHERE session_id = ? AND (status = 'running' OR id IN (SELECT value FROM json_each(?)))
"""
HAS_ONE = """
SELECT 1 FROM ingest WHERE session_id = ? AND kind = 'chat' AND trigger = 1 AND status = 'completed' AND withdrawn = 0
LIMIT 1
"""
IS_BUSY = """
SELECT 1 FROM ingest INDEXED BY ingest_open WHERE session_id = :session AND status = 'pending' AND trigger = 1
UNION ALL SELECT 1 FROM turns WHERE session_id = :session AND status = 'running'
LIMIT 1
"""
# What waits in one session goes to another one, as if it had been accepted for it.
CARRY = """
UPDATE ingest INDEXED BY ingest_open SET session_id = :to, generation = :generation, state = 'accepted', turn_id = NULL
WHERE session_id = :session AND status = 'pending' AND kind = 'chat'
"""


@dataclass(frozen=True, slots=True)
class Exchanges:
    """Some exchanges at the end of a session: how many, and their messages, oldest first."""

    count: int
    messages: tuple[Accepted, ...]


def last(connection: sqlite3.Connection, session_id: str, count: int) -> Exchanges:
    """The last exchanges of a session that were not taken back, and all that is open.

    What is open is cancelled when something is taken back. So it belongs to that, however much it is: nothing that
    somebody waits for is gone without being named.
    """
    row = one(connection, OLDEST_OPEN, (session_id,))
    oldest_open = None if row is None else row["position"]
    firsts: list[int] = []
    for exchange in connection.execute(ALL, (session_id,)):
        if len(firsts) >= count and (oldest_open is None or exchange["last"] < oldest_open):
            break
        firsts.append(exchange["first"])
    if not firsts:
        return Exchanges(0, ())
    first = min(firsts) if oldest_open is None else min(*firsts, oldest_open)
    return Exchanges(
        len(firsts), tuple(Accepted.from_row(row) for row in connection.execute(FROM, (session_id, first)))
    )


def withdraw(connection: sqlite3.Connection, session_id: str, exchanges: Exchanges) -> None:
    """Note that these, which are the last of their session, do not count any more; nor does a turn that runs."""
    turns = sorted({message.turn_id for message in exchanges.messages if message.turn_id is not None})
    connection.execute(WITHDRAW, (session_id, exchanges.messages[0].position))
    connection.execute(WITHDRAW_TURNS, (session_id, json.dumps(turns)))


def has_one(connection: sqlite3.Connection, session_id: str) -> bool:
    """Whether something was answered in a session."""
    return one(connection, HAS_ONE, (session_id,)) is not None


def is_busy(connection: sqlite3.Connection, session_id: str) -> bool:
    """Whether a turn of a session runs or is to run, as far as the ledger knows."""
    return one(connection, IS_BUSY, {"session": session_id}) is not None


def carry(connection: sqlite3.Connection, session_id: str, to: str, generation: int) -> int:
    """Hand on what waits in a session; how many messages that was."""
    return connection.execute(CARRY, {"session": session_id, "to": to, "generation": generation}).rowcount
