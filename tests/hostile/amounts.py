"""Tricks with amounts: more rows, larger values, more replies than anybody would want."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from tests.hostile.session import Session, new, now

Act = Callable[[Session, str], None]

_CHUNK = 10_000
_MESSAGE = "INSERT INTO messages_out (id, in_reply_to, generation, timestamp, kind, content) VALUES (?, ?, ?, ?, ?, ?)"
_ACK = "INSERT INTO processing_ack VALUES (?, 'completed', NULL, NULL, ?)"
_TURN = "INSERT INTO turns (id, status, started_at, input_tokens) VALUES (?, 'completed', ?, 1)"


def _fill(at: Session, statement: str, count: int, row: Callable[[int], Sequence[object]]) -> None:
    """That many rows, with a sign of life now and then."""
    for start in range(0, count, _CHUNK):
        at.beat()
        at.many(statement, (row(number) for number in range(start, min(count, start + _CHUNK))))


def rows_that_are_refused(at: Session, message: str) -> None:
    """Each is of an unknown kind, and each has to be noted."""
    generation, time = at.generation(), now()
    _fill(
        at,
        _MESSAGE,
        at.sizes.refusals,
        lambda n: (f"msg_{n:016x}", message, generation, time, "evil", '{"text":"x"}'),
    )
    at.reply(message, "done")


def rows_below_the_cursor(at: Session, message: str) -> None:
    """They were never said, however many they are."""
    statement = "INSERT INTO messages_out (seq, id, generation, timestamp, kind, content) VALUES (?, ?, 1, '', 'x', '')"
    _fill(at, statement, at.sizes.rows, lambda n: (-n - 1, f"msg_{n:016x}"))
    at.reply(message, "done")


def messages_without_end(at: Session, message: str) -> None:
    """Every one to be read, and none to be sent: they are of another generation."""
    time = now()
    _fill(at, _MESSAGE, at.sizes.rows, lambda n: (f"msg_{n:016x}", message, 0, time, "chat", '{"text":"x"}'))
    at.hold()


def acknowledgements_without_end(at: Session, message: str) -> None:
    time = now()
    _fill(at, _ACK, at.sizes.rows, lambda n: (f"msg_{n:016x}", time))
    at.reply(message, "done")


def turns_without_end(at: Session, message: str) -> None:
    time = now()
    _fill(at, _TURN, at.sizes.turns, lambda n: (f"trn_{n:016x}", time))
    at.reply(message, "done")


def rows_without_an_index(at: Session, message: str) -> None:
    """Tables without a key: to find one row is to read them all."""
    for table in ("messages_out", "processing_ack", "turns"):
        at.run(f"ALTER TABLE {table} RENAME TO old", f"CREATE TABLE {table} AS SELECT * FROM old", "DROP TABLE old")
    generation, time = at.generation(), now()
    _fill(
        at,
        "INSERT INTO messages_out (seq, id, in_reply_to, generation, timestamp, kind, content) VALUES "
        "(?, ?, ?, ?, ?, ?, ?)",
        at.sizes.rows,
        lambda n: (n + 1_000, f"msg_{n:016x}", message, generation, time, "evil", '{"text":"x"}'),
    )
    at.hold()


def a_reply_of_many(at: Session, message: str) -> None:
    """Thousands of answers to one question. They are allowed: it is its own chat that has to read them."""
    generation, time = at.generation(), now()

    def rows() -> Iterator[Sequence[object]]:
        for number in range(at.sizes.replies):
            yield new("msg"), message, generation, time, "chat", json.dumps({"text": f"reply {number}"})

    at.many(_MESSAGE, rows())
    at.reply(message, "done")


def messages_for_later_without_end(at: Session, message: str) -> None:
    """None of them is ever sent, and each of them waits in the queue of its chat."""
    generation, time = at.generation(), now()
    _fill(
        at,
        "INSERT INTO messages_out (id, in_reply_to, generation, timestamp, deliver_after, kind, content) "
        "VALUES (?, ?, ?, ?, '9999-12-31T23:59:59.999Z', 'chat', '{}')",
        at.sizes.refusals,
        lambda n: (f"msg_{n:016x}", message, generation, time),
    )
    at.reply(message, "done")


def _zeros(at: Session, message: str, insert: str) -> None:
    """A value of that size that the agent itself does not have to hold."""
    at.beat_beside()
    with closing(sqlite3.connect(at.database, isolation_level=None, timeout=5)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(insert, {"bytes": at.sizes.value_bytes, "message": message, "now": now()})
    at.reply(message, "done")


def a_content_without_end(at: Session, message: str) -> None:
    _zeros(
        at,
        message,
        "INSERT INTO messages_out (id, in_reply_to, generation, timestamp, kind, content) "
        "VALUES ('msg_0123456789abcdef', :message, 1, :now, 'chat', zeroblob(:bytes))",
    )


def an_id_without_end(at: Session, message: str) -> None:
    _zeros(
        at,
        message,
        "INSERT INTO messages_out (id, in_reply_to, generation, timestamp, kind, content) "
        "VALUES (zeroblob(:bytes), :message, 1, :now, 'chat', '{}')",
    )


def a_turn_without_end(at: Session, message: str) -> None:
    _zeros(
        at,
        message,
        "INSERT INTO turns (id, status, started_at, failure_reason) "
        "VALUES ('trn_0123456789abcdef', 'failed', :now, zeroblob(:bytes))",
    )


def a_state_without_end(at: Session, message: str) -> None:
    _zeros(
        at,
        message,
        "INSERT OR REPLACE INTO agent_state VALUES (1, 'idle', zeroblob(:bytes), NULL, NULL, 1, :now)",
    )


def an_acknowledgement_without_end(at: Session, message: str) -> None:
    """Of its own message: an error text of that size."""
    at.beat_beside()
    with closing(sqlite3.connect(at.database, isolation_level=None, timeout=5)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(
            "INSERT OR REPLACE INTO processing_ack VALUES (?, 'failed', NULL, zeroblob(?), ?)",
            (message, at.sizes.value_bytes, now()),
        )
    at.hold()
