"""Tricks with the rows of `outbound.db`: values of the wrong type, size, time or owner, and answers that change."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

from tests.hostile.session import Session, Statement, ack, new, now

Act = Callable[[Session, str], None]

_COLUMNS = (
    "turn_id", "in_reply_to", "generation", "timestamp", "deliver_after", "kind", "destination", "channel_type",
    "platform_id", "thread_id", "content",
)  # fmt: skip
_VALUES: tuple[object, ...] = (None, 7, -1.5, 9e999, b"\xff\xfe\x00", "", "x" * 10_000, "\0", "../..", "0000-00-00")
_TIMES = ("", "never", "0000-01-01T00:00:00.000Z", "99999-01-01T00:00:00.000Z", "2026-02-30T25:61:61.000Z", "1e9", "\0")
_FAR = "9999-12-31T23:59:59.999Z"
_TURN = "INSERT INTO turns (id, status, started_at, finished_at, input_tokens, cost_usd) VALUES (?, ?, ?, ?, ?, ?)"
_STATE = "INSERT OR REPLACE INTO agent_state VALUES (1, ?, ?, ?, ?, ?, ?)"


def _untyped(at: Session, *tables: str) -> None:
    """The same tables without types and constraints: every column takes everything."""
    with closing(sqlite3.connect(at.database, isolation_level=None)) as connection:
        for table in tables:
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            key = "seq INTEGER PRIMARY KEY" if names[0] == "seq" else names[0]
            connection.execute(f"DROP TABLE {table}")
            connection.execute(f"CREATE TABLE {table} ({', '.join([key, *names[1:]])})")


def every_type_in_every_column(at: Session, message: str) -> None:
    _untyped(at, "messages_out", "processing_ack", "turns", "agent_state")
    rows = [at.row(message, f"{c}: {v!r:.20}", **{c: v}) for c in ("id", *_COLUMNS) for v in _VALUES]
    acks = [ack(a, b, c) for a in _VALUES for b in _VALUES for c in _VALUES[:3]]
    turns: list[Statement] = [(_TURN, (v, v, v, v, v, v)) for v in _VALUES]
    turns += [(_TURN, (new("trn"), "completed", now(), v, v, v)) for v in _VALUES]
    at.write([*rows, *acks, *turns, (_STATE, _VALUES[1:7]), at.row(message, "done"), ack(message)])


def text_that_is_hard_to_show(at: Session, message: str) -> None:
    """Much of what a reader of Markdown, or of graphemes, takes steps for."""
    pieces = (
        "`", "~", "```\n", "```" + "x" * 3_000 + "\n", "* a\n", "> * > * a\n", "|1|2|\n|-|-|\n", "*a **b ", "[", "![",
        "[](", "https://", "\n", " ", "e" + "\u0301" * 5_000, "\U0001f468\u200d", "\U0001f1e6",
    )  # fmt: skip
    texts = [("begins " + piece * (20_000 // len(piece) + 1))[:20_000] for piece in pieces]
    at.write([*(at.row(message, text) for text in texts), at.row(message, "done"), ack(message)])


def text_that_is_no_text(at: Session, message: str) -> None:
    """Bytes that are no UTF-8 in each text column."""
    statements: list[Statement] = []
    for column in ("id", *_COLUMNS):
        broken = f"UPDATE messages_out SET {column} = CAST(x'ff61c328' AS TEXT) WHERE seq = last_insert_rowid()"
        statements += [at.row(message, column), (broken, ())]
    at.write([*statements, at.row(message, "done"), ack(message)])


def zero_bytes_in_text(at: Session, message: str) -> None:
    """In a text a zero byte is a character like any other; in an id, a kind or a time it is none."""
    at.write(
        [
            at.row(message, "id", id="msg_0123456789abcde\0"),
            at.row(message, "kind", kind="chat\0"),
            at.row(message, "time", timestamp=f"{now()}\0"),
            at.row(message, "destination", destination="elsewhere\0"),
            at.row(message, "done"),
            ack(message),
        ]
    )


def numbers_below_zero(at: Session, message: str) -> None:
    at.write([at.row(message, "below", seq=-number) for number in range(1, 1000)])
    at.write([at.row(message, "done"), ack(message)])


def the_largest_number(at: Session, message: str) -> None:
    at.write([at.row(message, "jumped", seq=2**63 - 1), ack(message)])
    at.hold()


def a_jump_and_rows_below_it(at: Session, message: str) -> None:
    """The host's cursor goes far ahead; what is written below it afterwards was never said."""
    at.write([at.row(message, "done", seq=900_000_000), ack(message)])
    time.sleep(0.3)
    at.write([at.row(message, "below", seq=number) for number in range(1_000_000, 1_000_100)])


def numbers_twice(at: Session, message: str) -> None:
    """A table without a key: the same number again and again, with other ids and the same."""
    _untyped(at, "messages_out")
    at.run("ALTER TABLE messages_out RENAME TO old", "CREATE TABLE messages_out AS SELECT * FROM old", "DROP TABLE old")
    twice = new("msg")
    at.write([at.row(message, f"number {n}", seq=1000, id=twice if n % 2 else new("msg")) for n in range(20)])
    at.write([at.row(message, "done", seq=1001), ack(message)])


def ids_that_are_paths(at: Session, message: str) -> None:
    bad = ["../../../escape", "/etc/passwd", "..", "msg_../../../../a", "msg_0123456789ABCDEF", "msg_\n", "a" * 99]
    content = json.dumps({"text": "look", "files": ["file"]})
    at.write([*(at.row(message, "", id=name, content=content) for name in bad), at.row(message, "done"), ack(message)])


def files_with_odd_names(at: Session, message: str) -> None:
    """Names in `files` that are paths, devices, endless or half characters."""
    bad = ["../x", "/etc/passwd", "..", "x/y", "x\0y", "x" * 5000, "\ud800", "", 7, None, ["x"]]
    rows = []
    for name in bad:
        row = at.row(message, "")
        (at.outbox / str(row[1][0])).mkdir(parents=True)
        rows.append((row[0], [*row[1][:-1], json.dumps({"text": "look", "files": [name]})]))
    at.write([*rows, at.row(message, "done"), ack(message)])


def ids_of_other_sessions(at: Session, message: str) -> None:
    """Messages, acknowledgements and addresses of somebody else; where nobody can be seen, invented ones."""
    foreign = [new("msg")]
    for other in at.others()[:10]:
        with closing(sqlite3.connect(f"file:{other / 'inbound.db'}?mode=ro", uri=True)) as connection:
            foreign += [row[0] for row in connection.execute("SELECT id FROM messages_in ORDER BY seq DESC LIMIT 20")]
    forged: list[Statement] = []
    for theirs in foreign:
        forged += [ack(theirs), at.row(theirs, "in its name", channel_type="memory", platform_id="one")]
    at.write([*forged, at.row(message, "done"), ack(message)])


def answers_that_flip_back(at: Session, message: str) -> None:
    """An outcome is final, whatever is said of the message later."""
    at.write([at.row(message, "done"), ack(message)])
    while not at.asked(f"SELECT 1 FROM messages_in WHERE id = '{message}' AND status = 'completed'"):
        at.beat()
        time.sleep(0.05)
    for status in ("processing", "failed", "dancing", "processing", "completed", "failed"):
        at.beat()
        at.write([ack(message, status, "haha")])
        time.sleep(0.05)


def turns_that_never_end(at: Session, message: str) -> None:
    turns: list[Statement] = [(_TURN, (new("trn"), "running", now(), None, None, None)) for _ in range(2000)]
    at.write([*turns, at.row(message, "done"), ack(message)])


def usage_that_cannot_be(at: Session, message: str) -> None:
    """Tokens and dollars below zero, beyond all numbers, and of other types."""
    values = (-1, -(2**63), 2**63 - 1, 10**15, 1.5, 9e999, -9e999, float("nan"), "1e9", "many", b"\xff", "", True)
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cost_usd")
    turns: list[Statement] = []
    for name in names:
        insert = f"INSERT INTO turns (id, status, started_at, finished_at, {name}) VALUES (?, 'completed', ?, ?, ?)"
        turns += [(insert, (new("trn"), now(), now(), value)) for value in values]
    at.write([*turns, at.row(message, "done"), ack(message)])


def impossible_times(at: Session, message: str) -> None:
    """In every column that holds a time."""
    rows = [at.row(message, "bad", **{c: t}) for c in ("timestamp", "deliver_after") for t in _TIMES]
    turns: list[Statement] = []
    for odd in _TIMES:
        turns += [(_TURN, (new("trn"), "completed", odd, now(), 1, 1.0))]
        turns += [(_TURN, (new("trn"), "completed", now(), odd, 1, 1.0))]
    late = [at.row(message, "in eight thousand years", deliver_after=_FAR, timestamp=_FAR)]
    acks: list[Statement] = [
        ("INSERT OR REPLACE INTO processing_ack VALUES (?, 'completed', NULL, NULL, ?)", (message, t)) for t in _TIMES
    ]
    state: Statement = (_STATE, ("working", "sleep", _TIMES[2], None, 1, _TIMES[3]))
    at.write([*rows, *turns, *late, state, at.row(message, "done"), *acks])


def a_tool_that_may_take_for_ever(at: Session, message: str) -> None:
    """It says that a tool runs until the year 9999, and touches its heartbeat no more."""
    at.write([(_STATE, ("working", "sleep", _FAR, None, 1, now())), ack(message, "processing")])
    time.sleep(3600)


def nest(name: str, depth: int) -> str:
    """A short content that one thread can just read, and the next one cannot: it calls from a little deeper."""
    return f'{{"text": "x", "{name}x": {"[" * depth}{"]" * depth}}}'


def content_that_is_hard_to_read(at: Session, message: str) -> None:
    bad = [
        "{not json", "[1, 2]", "[" * 100_000, '{"a":' * 50_000, '{"text": "x", "n": ' + "9" * 5000 + "}", "7", "null",
        '{"text": [1]}', '{"text": "\\ud800"}', json.dumps({"text": "x" * 200_000}), '{"files": "secret"}',
        '{"text": "a", "text": "' + "b" * 100_001 + '"}', '{"text": NaN, "x": Infinity}',
        *(nest("text", depth) for depth in range(940, 1000, 3)), *(nest("files", depth) for depth in (900, 950, 990)),
    ]  # fmt: skip
    at.write([*(at.row(message, "", content=c) for c in bad), at.row(message, "done"), ack(message)])


def questions_without_end(at: Session, message: str) -> None:
    """So that it hears all that is said in a chat where it has to be mentioned."""
    asked = json.dumps({"text": "And?", "expires": _FAR})
    at.write([*(at.row(message, "", kind="question", content=asked) for _ in range(60)), ack(message, "processing")])
    at.write([at.row(message, "done"), ack(message)])
