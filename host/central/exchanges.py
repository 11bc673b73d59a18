"""Exchanges: what a person wrote and what was answered, in the units in which it can be taken back.

One turn may answer several messages. What is taken back is whole turns, so an exchange is the messages that one turn
took, those it only heard among them; a message that no turn took is one by itself.
"""

from __future__ import annotations

import json

from host.central.database import Queryable, Transaction, one
from host.central.ingest import AcceptedMessage
from shared_schema.dataclass import dataclass

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
WITHDRAW = """
UPDATE ingest SET withdrawn_at = CASE withdrawn WHEN 0 THEN ? ELSE withdrawn_at END, withdrawn = 1
WHERE session_id = ? AND position >= ? AND kind = 'chat'
"""
WITHDRAW_TURNS = """
UPDATE turns SET withdrawn_at = CASE withdrawn WHEN 0 THEN ? ELSE withdrawn_at END, withdrawn = 1
WHERE session_id = ? AND (status = 'running' OR id IN (SELECT value FROM json_each(?)))
"""
# A branch and the sessions it goes back to, the nearest first, and until when each is part of it: the time at which the
# next of them was branched off.
LINE = """
WITH RECURSIVE line (id, born, until, relation, parent, depth) AS (
    SELECT id, created_at, NULL, parent_relation, parent_session_id, 0 FROM sessions WHERE id = ?
    UNION ALL
    SELECT s.id, s.created_at, line.born, s.parent_relation, s.parent_session_id, depth + 1
    FROM line JOIN sessions s ON s.id = line.parent WHERE line.relation = 'branched' AND depth < 20
)
SELECT id, until FROM line ORDER BY depth
"""
# The newest turns of an ancestor that a branch has taken over. What was taken back there later is in the branch still.
INHERITED = """
SELECT turn_id, max(position) AS last FROM ingest
WHERE session_id = :parent AND kind = 'chat' AND turn_id IS NOT NULL AND accepted_at <= :until
  AND (withdrawn = 0 OR withdrawn_at > :until)
  AND turn_id NOT IN (SELECT value FROM json_each(:forgotten))
GROUP BY turn_id HAVING max(trigger) = 1 ORDER BY last DESC LIMIT :limit
"""
# What a session has taken back by a time, or ever.
FORGOTTEN = """
SELECT id FROM turns INDEXED BY turns_withdrawn
WHERE session_id = :session AND withdrawn = 1 AND (:until IS NULL OR withdrawn_at IS NULL OR withdrawn_at <= :until)
"""
OF_TURN = "SELECT * FROM ingest WHERE session_id = ? AND turn_id = ? AND kind = 'chat' ORDER BY position"
WITHDRAW_INHERITED = """
INSERT INTO turns (session_id, id, status, started_at, finished_at, withdrawn, withdrawn_at)
VALUES (?, ?, 'completed', ?, ?, 1, ?)
ON CONFLICT (session_id, id) DO UPDATE SET withdrawn = 1, withdrawn_at = excluded.withdrawn_at
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
    messages: tuple[AcceptedMessage, ...]


def last(connection: Queryable, session_id: str, count: int) -> Exchanges:
    """The last exchanges of a session that were not taken back, and all that is open.

    What is open is cancelled when something is taken back. So it belongs to that, however much it is: nothing that
    a person waits for is gone without being named.
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
        len(firsts), tuple(AcceptedMessage.from_row(row) for row in connection.execute(FROM, (session_id, first)))
    )


def inherited(connection: Queryable, session_id: str, count: int) -> Exchanges:
    """The last exchanges that a branch has taken over from where it was branched off, and still counts."""
    found: list[tuple[str, str]] = []
    forgotten: list[str] = []  # by the branch, or by one in between before the branch was made of it
    for member in [dict(row) for row in connection.execute(LINE, (session_id,))]:
        if len(found) >= count:
            break
        until = member["until"]
        if until is not None:
            values = {
                "parent": member["id"],
                "until": until,
                "forgotten": json.dumps(forgotten),
                "limit": count - len(found),
            }
            found += [(member["id"], row["turn_id"]) for row in connection.execute(INHERITED, values)]
        asked = {"session": member["id"], "until": until}
        forgotten += [row["id"] for row in connection.execute(FORGOTTEN, asked)]
    messages = [
        AcceptedMessage.from_row(row)
        for parent, turn_id in reversed(found)
        for row in connection.execute(OF_TURN, (parent, turn_id))
    ]
    return Exchanges(len(found), tuple(messages))


def withdraw_inherited(tx: Transaction, session_id: str, exchanges: Exchanges) -> None:
    """Note that a branch counts these no more; where they were said they stay."""
    for turn_id in {message.turn_id for message in exchanges.messages}:
        tx.execute(WITHDRAW_INHERITED, (session_id, turn_id, tx.now, tx.now, tx.now))


def withdraw(tx: Transaction, session_id: str, exchanges: Exchanges) -> None:
    """Note that these, which are the last of their session, do not count any more; nor does a turn that runs."""
    turns = sorted({message.turn_id for message in exchanges.messages if message.turn_id is not None})
    tx.execute(WITHDRAW, (tx.now, session_id, exchanges.messages[0].position))
    tx.execute(WITHDRAW_TURNS, (tx.now, session_id, json.dumps(turns)))


def has_one(connection: Queryable, session_id: str) -> bool:
    """Whether something was answered in a session."""
    return one(connection, HAS_ONE, (session_id,)) is not None


def is_busy(connection: Queryable, session_id: str) -> bool:
    """Whether a turn of a session runs or is to run, as far as the ledger knows."""
    return one(connection, IS_BUSY, {"session": session_id}) is not None


def carry(tx: Transaction, session_id: str, to: str, generation: int) -> int:
    """Hand on what waits in a session; how many messages that was."""
    return tx.execute(CARRY, {"session": session_id, "to": to, "generation": generation}).rowcount
