"""history.db: making it again, adding to it, searching it, and reading a long transcript.

The messages are drawn: words as frequent as words are, some names from code, every tenth message partly Chinese.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import accumulate
from pathlib import Path

from host.history import store
from host.history.entry import Entry
from host.history.feed import History
from host.history.rebuild import rebuild
from host.history.record import Record
from host.history.search import Filters, search
from host.history.store import State, StoredStep
from host.history.transcript import entries
from host.sessions.folder import Owner, make_data_folder, make_session_folder
from shared_schema.layout import DataLayout, SessionLayout
from tests.bench.figure import Figure, at_most, percentile
from tests.bench.population import quick
from tests.bench.workbench import Workbench

SESSIONS, FULL_SESSIONS = 500, 10_000
MESSAGES = 100
"""In each session; half of them answers. The first session has ten times as many, for its transcript."""

_SAMPLE = 50
_ADDED = 1_000
_SEED = 20_260_228
_MS, _US = 1_000, 1_000_000


def measure(bench: Workbench) -> Iterator[Figure]:
    """Quickly, with 50,000 messages."""
    yield from _measure(bench, SESSIONS)


def measure_full(bench: Workbench) -> Iterator[Figure]:
    """With a million messages in 10,000 sessions."""
    yield from _measure(bench, FULL_SESSIONS)


def _measure(bench: Workbench, sessions: int) -> Iterator[Figure]:
    draw = _Draw()
    layout = DataLayout(bench.new_folder("history"))
    texts = _fill(layout, sessions, draw)
    count = sessions * MESSAGES
    began = time.perf_counter()
    for _ in rebuild(layout, layout.history):
        pass
    taken = time.perf_counter() - began
    yield Figure(
        f"making history again, a message of {count:,}",
        taken / len(texts) * _US,
        "µs",
        _bare_insert(bench.folder / "bare.db", texts) / len(texts) * _US,
        at_most(50),
        note="20,000 a second; the floor is a bare executemany of the texts",
    )
    with closing(_Closing(History(layout))) as opened:
        history = opened.history
        yield from _searching(history, layout, texts, draw, count)
        yield _reading(history, count)
    with closing(Record(layout.history, lambda: None)) as record:
        yield _adding(record, layout, texts, count)


class _Closing:
    def __init__(self, history: History) -> None:
        self.history = history
        self.close = history.close_here


def _searching(history: History, layout: DataLayout, texts: Sequence[str], draw: _Draw, count: int) -> Iterator[Figure]:
    for kind, queries in draw.queries(texts).items():
        taken: list[float] = []
        bare: list[float] = []
        for query in queries:
            taken.append(_seconds(lambda query=query: history.read_here(lambda c: search(c, query, Filters(), 20))))  # type: ignore[misc]
            bare.append(_bare_search(layout.history, texts[0].split()[0]))
        yield Figure(
            f"searching {count:,} messages, {kind}, p95",
            percentile(taken, 95) * _MS,
            "ms",
            percentile(bare, 50) * _MS,
            at_most(50),
            note="the floor is twenty rowids of a common word, without their texts",
        )


def _adding(record: Record, layout: DataLayout, texts: Sequence[str], count: int) -> Figure:
    """One message in one transaction, as it comes when little is going on."""
    session_id, group = "ses_ffffffffffffffff", "agr_0000000000000000"
    before: State | None = None
    taken: list[float] = []
    bare: list[float] = []
    with closing(sqlite3.connect(layout.data / "bare-add.db", isolation_level=None)) as plain:
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL"):
            plain.execute(f"PRAGMA {pragma}")
        plain.execute("CREATE TABLE m (seq INTEGER PRIMARY KEY, text)")
        for seq, text in enumerate(texts[:_ADDED], 1):
            entry = _entry(session_id, seq, text)
            after = State(group, str(seq), store.Cursors(inbound=seq))
            step = StoredStep(session_id, before, after, [entry])
            taken.append(_seconds(lambda step=step: record.write(lambda c: store.add(c, [step]))))  # type: ignore[misc]
            bare.append(_seconds(lambda text=text: plain.execute("INSERT INTO m (text) VALUES (?)", (text,))))  # type: ignore[misc]
            before = after
    return Figure(
        f"adding one message to {count:,}, p95",
        percentile(taken, 95) * _MS,
        "ms",
        percentile(bare, 95) * _MS,
        at_most(1),
        note="without the read of the session's two files, which is off the way of the message",
    )


def _reading(history: History, count: int) -> Figure:
    """The transcript of a session of 1,000 messages."""

    def read(connection: sqlite3.Connection) -> int:
        rows = store.last_messages(connection, _session_id(0), MESSAGES * 10, store.Room(2**40, 60.0))
        return len(entries(rows, [], [], agent="assistant", whole=True))

    assert history.read_here(read) == MESSAGES * 10
    taken = [_seconds(lambda: history.read_here(read)) for _ in range(_SAMPLE)]
    return Figure(
        f"transcript of 1,000 of {count:,} messages, p95", percentile(taken, 95) * _MS, "ms", None, at_most(50)
    )


def _entry(session_id: str, seq: int, text: str) -> Entry:
    values = dict.fromkeys(Entry._fields) | {"session_id": session_id, "source": "messages_in", "seq": seq}
    return Entry(**values | {"place": seq, "role": "user", "message_id": f"msg_{seq}", "text": text})  # type: ignore[arg-type]


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _bare_insert(path: Path, texts: Sequence[str]) -> float:
    """Seconds for the same texts into a table and nothing else."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE m (seq INTEGER PRIMARY KEY, text)")
        began = time.perf_counter()
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO m (text) VALUES (?)", ((text,) for text in texts))
        connection.execute("COMMIT")
        return time.perf_counter() - began


def _bare_search(path: Path, word: str) -> float:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("SELECT rowid FROM words LIMIT 1").fetchone()
        statement = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid DESC LIMIT 20"
        return _seconds(lambda: connection.execute(statement, (f'"{word}"',)).fetchall())


def _session_id(number: int) -> str:
    return f"ses_{number:016x}"


def _fill(layout: DataLayout, sessions: int, draw: _Draw) -> list[str]:
    """The sessions with their messages; what they say."""
    make_data_folder(layout, Owner.of_agents(10001))
    empty = SessionLayout(layout.data.with_name(f"{layout.data.name}-empty"))
    make_session_folder(empty, Owner.of_agents(10001))
    texts: list[str] = []
    for number in range(sessions):
        folder = layout.session(f"agr_{number // 1000:016x}", _session_id(number))
        folder.folder.parent.mkdir(exist_ok=True)
        shutil.copytree(empty.folder, folder.folder, symlinks=True)
        said = [draw.text(len(texts) + each) for each in range(MESSAGES * (10 if number == 0 else 1))]
        texts += said
        _write(folder, said, number)
    return texts


def _write(folder: SessionLayout, said: Sequence[str], number: int) -> None:
    times = [f"2026-{1 + at % 12:02}-{1 + number % 28:02}T{at % 24:02}:00:00.000Z" for at in range(len(said))]
    with quick(folder.inbound) as connection:
        connection.executemany(
            """
            INSERT INTO messages_in (id, kind, timestamp, generation, trigger, status, channel_type, platform_id,
                sender_id, sender_name, content)
            VALUES (?, 'chat', ?, 1, 1, 'completed', 'memory', ?, 'ann', 'Ann', ?)
            """,
            [(f"msg_{at}", times[at], str(number), _content(said[at])) for at in range(0, len(said), 2)],
        )
    with quick(folder.outbound) as connection:
        connection.executemany(
            """
            INSERT INTO messages_out (id, turn_id, in_reply_to, generation, timestamp, kind, content)
            VALUES (?, ?, ?, 1, ?, 'chat', ?)
            """,
            [
                (f"msg_{at}", f"trn_{at}", f"msg_{at - 1}", times[at], _content(said[at]))
                for at in range(1, len(said), 2)
            ],
        )


def _content(text: str) -> str:
    return json.dumps({"text": text}, ensure_ascii=False)


class _Draw:
    """Draws messages and what somebody looks for, always the same."""

    def __init__(self) -> None:
        self._random = random.Random(_SEED)
        self._words = ["".join(self._random.choices("etaoinshrdlcumwfgypbvk", k=2 + at % 9)) for at in range(40_000)]
        self._of_words = list(accumulate(1 / (at + 1) for at in range(len(self._words))))
        self._signs = [chr(0x4E00 + at) for at in range(3_000)]
        self._of_signs = list(accumulate(1 / (at + 5) for at in range(len(self._signs))))

    def text(self, number: int) -> str:
        """A message of about a hundred characters."""
        words = self._random.choices(self._words, cum_weights=self._of_words, k=self._random.randint(4, 28))
        if number % 7 == 0:
            words.append(f"src/{words[0]}_{words[1]}.py:{number}")
        signs = "".join(self._random.choices(self._signs, cum_weights=self._of_signs, k=20)) if number % 10 == 0 else ""
        return " ".join(words) + signs

    def queries(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """What somebody looks for, by kind."""
        found: dict[str, list[str]] = {}
        for _ in range(_SAMPLE):
            number = self._random.randrange(0, len(texts) - 70, 70) // 70 * 70
            text = texts[number]  # it has a name from code, and signs
            words = [word for word in text.split() if word.isascii()]
            signs = [sign for sign in text if sign in self._signs[0] or ord(sign) >= 0x4E00]
            for kind, query in (
                ("a common word", self._words[self._random.randrange(10)]),
                ("a rare word", self._words[-1 - self._random.randrange(20_000)]),
                ("two words", f"{words[0]} {words[-1]}"),
                ("a phrase", f'"{words[0]} {words[1]}"'),
                ("a beginning", f"{self._random.choice(words)[:3]}*"),
                ("a piece of a name", f"{words[0]}_{words[1]}"[1:]),
                ("a Chinese character", signs[0]),
                ("two Chinese characters", "".join(signs[3:5])),
                ("nothing", "no such word anywhere"),
            ):
                found.setdefault(kind, []).append(query)
        return found
