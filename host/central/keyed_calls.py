"""Calls that came with an Idempotency-Key: each is done once, and a repeated one gets the first one's answer.

A call is noted before it is begun. One whose host died in the middle stays noted without an end: whether it was done
is not known, and it is not done again.
"""

from __future__ import annotations

from datetime import timedelta

from host.central.database import Transaction, one
from shared_schema.clock import to_text
from shared_schema.dataclass import dataclass
from shared_schema.rows import Row

BEGIN = """
INSERT INTO keyed_calls (caller, key, digest, created_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
FIND = "SELECT digest, status, answer FROM keyed_calls WHERE caller = ? AND key = ?"
END = "UPDATE keyed_calls SET status = ?, answer = ? WHERE caller = ? AND key = ?"
FORGET = "DELETE FROM keyed_calls WHERE created_at < ?"


@dataclass(frozen=True, slots=True)
class KeyedCall(Row):
    """A call that was begun before. Without a status its end is not known; without an answer that is not kept."""

    digest: str
    status: int | None
    answer: str | None


def begin(tx: Transaction, caller: str, key: str, digest: str, kept: timedelta) -> KeyedCall | None:
    """Note that a call is begun, and forget those that are older than `kept`.

    Returns the call that was begun with that key before, which is all there is to do then.
    """
    tx.execute(FORGET, (to_text(tx.at - kept),))
    if tx.execute(BEGIN, (caller, key, digest, tx.now)).rowcount:
        return None
    row = one(tx, FIND, (caller, key))
    assert row is not None
    return KeyedCall.from_row(row)


def end(tx: Transaction, caller: str, key: str, status: int, answer: str | None) -> None:
    """Keep what came of a call."""
    tx.execute(END, (status, answer, caller, key))
