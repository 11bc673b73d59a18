"""The audit log: every change that a person makes, in the transaction that makes it.

Who changes something is said once, where a request or a command comes in (`acting`), and holds for all that is written
on its behalf (`Central.submit` hands the context on to the writing thread). What the host does by itself has no actor
and makes no entry. Entries are kept for good, up to so many.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from host.central.database import Queryable, Transaction
from shared_schema import json_text
from shared_schema.dataclass import dataclass

INSERT = """
INSERT INTO audit (at, who, where_from, action, subject, before, after) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING position
"""
TRIM = "DELETE FROM audit WHERE position <= ?"
LIST = """
SELECT * FROM audit
WHERE (:who IS NULL OR who = :who) AND (:action IS NULL OR action = :action OR action LIKE :action || '.%')
  AND (:since IS NULL OR at >= :since) AND (:before IS NULL OR position < :before)
ORDER BY position DESC LIMIT :limit
"""

KEPT = 100_000
_TRIMMED_AT_ONCE = 100
_LONGEST = 2_000


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something, and from where: a chat's address, `command line`, or `host`."""

    who: str
    where_from: str


_ACTOR: ContextVar[Actor | None] = ContextVar("actor", default=None)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """What is changed in this block, and by what is asked for in it, is changed by this person."""
    token = _ACTOR.set(actor)
    try:
        yield
    finally:
        _ACTOR.reset(token)


def record(
    tx: Transaction,
    action: str,
    subject: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Note a change, in the caller's transaction. Nothing when no person makes it, or when nothing is different.

    Of two states only what differs is kept. `action` is such as `wiring.set`.
    """
    actor = _ACTOR.get()
    if actor is None:
        return
    if before is not None and after is not None:
        before, after = _differing(before, after), _differing(after, before)
        if not before and not after:
            return
    values = (tx.now, actor.who, actor.where_from, action, subject[:_LONGEST], _stored(before), _stored(after))
    (position,) = tx.execute(INSERT, values).fetchone()
    if position % _TRIMMED_AT_ONCE == 0:
        tx.execute(TRIM, (position - KEPT,))


def entries(
    connection: Queryable,
    *,
    who: str | None = None,
    action: str | None = None,
    since: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """The newest entries first: `position, at, who, from, action, subject, before, after`.

    `action` is a whole one, or the noun that several begin with (`wiring`).
    """
    values = {"who": who, "action": action, "since": since, "before": before, "limit": limit}
    return [
        {
            "position": row["position"],
            "at": row["at"],
            "who": row["who"],
            "from": row["where_from"],
            "action": row["action"],
            "subject": row["subject"],
            "before": None if row["before"] is None else json_text.parse(row["before"]),
            "after": None if row["after"] is None else json_text.parse(row["after"]),
        }
        for row in connection.execute(LIST, values)
    ]


def _differing(state: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name not in other or other[name] != value}


def _stored(state: Mapping[str, Any] | None) -> str | None:
    """A state as JSON, its long texts cut."""
    if state is None:
        return None
    short = {
        name: value[:_LONGEST] if isinstance(value, str) and len(value) > _LONGEST else value
        for name, value in state.items()
    }
    return json.dumps(short, ensure_ascii=False)
