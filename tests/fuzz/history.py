"""What history takes from agents, from people who search, and from files that are imported."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from host.central import title
from host.history.cjk import INDEXED_CHARACTERS
from host.history.entry import looked_up
from host.history.feed import History
from host.history.query import Term
from host.history.search import Filters, search
from host.history.snippet import snippet
from host.operations.export_import import sessions_in
from host.routing import commands
from host.sessions import inspection
from host.sessions.filename import MAX_BYTES, safe_name
from host.sessions.folder import Owner, make_data_folder, make_session_folder
from shared_schema.database import open_writer
from shared_schema.errors import FileTrouble, InvalidValue
from shared_schema.layout import DataLayout
from shared_schema.text import composed, one_line, printable
from tests.fuzz.ledger import MESSAGE, OWNER, TURN
from tests.fuzz.outbound_file import database, healthy_files
from tests.fuzz.target import Drive, Target, of_bytes
from tests.fuzz.values import ANY_TEXT, REPEATED, TIME, content, fill, nearly_right

GROUP, SESSION = "agr_0123456789abcdef", "ses_0123456789abcdef"

MESSAGES = nearly_right(
    id=("msg_1", "msg_2"), in_reply_to=(MESSAGE, None), generation=(1,), timestamp=(TIME,), kind=("chat", "card"),
    content=content(text=ANY_TEXT),
)  # fmt: skip
STEPS = nearly_right(
    turn_id=(TURN,), role=("tool", "assistant"), content=st.one_of(ANY_TEXT, content(type=ANY_TEXT, text=ANY_TEXT)),
    tool_name=("read", None), tool_calls=content(name=ANY_TEXT, arguments=content(path=ANY_TEXT)), timestamp=(TIME,),
)  # fmt: skip
PIECES = st.sampled_from(
    ('"', "(", ")", "*", " AND ", " OR ", " NOT ", "NEAR", "^", "-", ":", "hello", "中", "label:x")
)
QUERIES = st.lists(st.one_of(PIECES, PIECES, ANY_TEXT, REPEATED), max_size=30).map("".join)
TITLES = st.lists(st.one_of(ANY_TEXT, REPEATED), max_size=4).map("".join)
SQL = st.lists(
    st.one_of(
        st.sampled_from(
            (
                "select ",
                "* ",
                "from ",
                "messages_out",
                "steps ",
                "turns",
                "messages_in ",
                "where ",
                "content",
                "(",
                ")",
                ", ",
                "union all ",
                "limit 1 ",
                "count(*) ",
                "substr(content, 1, 5) ",
                "with recursive ",
                "attach ",
                "'x' ",
                "pragma ",
                "json_each(content)",
                "group by 1 ",
                "zeroblob(1000000)",
                "1 ",
                "; ",
                "--",
                "/*",
                "like ",
            )
        ),
        ANY_TEXT,
        REPEATED,
    ),
    max_size=12,
).map("".join)


@contextmanager
def _opened(folder: Path) -> Iterator[History]:
    layout = DataLayout(folder)
    make_data_folder(layout, Owner.of_agents(10001))
    make_session_folder(layout.session(GROUP, SESSION), OWNER)
    history = History(layout)
    try:
        yield history
    finally:
        history.close_here()


@contextmanager
def _file(folder: Path) -> Iterator[Drive]:
    """An agent's file is read into history; one that is no good is left out without a word."""
    outbound = DataLayout(folder).session(GROUP, SESSION).outbound
    with _opened(folder) as history:

        def drive(data: bytes) -> None:
            outbound.write_bytes(data)
            history.forget_here(SESSION)
            history.catch_up_here(SESSION, GROUP)

        yield drive


@contextmanager
def _rows(folder: Path) -> Iterator[Drive]:
    """The same with rows of any kind in a file without constraints."""
    empty = database(4096, loose=True, filled=False)
    outbound = DataLayout(folder).session(GROUP, SESSION).outbound
    with _opened(folder) as history:

        def drive(rows: dict[str, list[dict[str, Any]]]) -> None:
            outbound.write_bytes(empty)
            fill(outbound, rows)
            history.forget_here(SESSION)
            history.catch_up_here(SESSION, GROUP)

        yield drive


@contextmanager
def _query(folder: Path) -> Iterator[Drive]:
    with _opened(folder) as history:
        with closing(open_writer(DataLayout(folder).session(GROUP, SESSION).outbound)) as connection:
            connection.execute(
                "INSERT INTO messages_out (id, generation, timestamp, kind, content) VALUES ('m', 1, ?, 'chat', ?)",
                (TIME, json.dumps({"text": "hello 中文 host/routing.py"})),
            )
        history.catch_up_here(SESSION, GROUP)

        def drive(query: str) -> None:
            for filters in (Filters(), Filters(session_id=SESSION), Filters(agent_groups=frozenset({GROUP}))):
                history.read_here(lambda c, filters=filters: search(c, query, filters, 10))  # type: ignore[misc]

        yield drive


@contextmanager
def _import(folder: Path) -> Iterator[Drive]:
    path = folder / "export"

    def drive(data: bytes) -> None:
        path.write_bytes(data)
        for session in sessions_in(path):
            assert session.header["id"].startswith("ses_")

    yield drive


def exports() -> Sequence[bytes]:
    """What an export is."""
    header = {
        "type": "session",
        "format": 1,
        "id": SESSION,
        "agent_group": "a",
        "created_at": TIME,
        "last_active": TIME,
    }
    entry = {"type": "entry", "source": "messages_in", "seq": 1, "message_id": "m", "kind": "chat", "content": "{}"}
    step = {"type": "entry", "source": "steps", "seq": 1, "role": "tool", "text": "x", "turn_id": TURN}
    return ["\n".join(map(json.dumps, lines)).encode() for lines in ([header, entry, step], [header, header])]


@contextmanager
def _text(folder: Path) -> Iterator[Drive]:
    """Everything that brings foreign text into a form: titles, commands, file names, excerpts, what is looked up."""
    composed("\u0301", 1)  # the table of marks is made once

    def drive(text: str) -> None:
        try:
            made = title.clean(text)
            assert title.clean(made) == made
            assert len(made) <= title.MAX
        except InvalidValue:
            assert title.first_words(text) is None
        commands.parse(f"/title {text}")
        commands.parse(text)
        assert len(safe_name(text, {text}).encode()) <= MAX_BYTES
        assert len(looked_up(text)) <= 6 * INDEXED_CHARACTERS
        shown = snippet(text, [Term(text[:1_000]), Term("a", True)])
        assert all(0 <= first < last <= len(shown.text) for first, last in shown.marks)
        assert printable(text).isprintable()
        assert one_line(text, 100).isprintable()

    yield drive


@contextmanager
def _sql(folder: Path) -> Iterator[Drive]:
    """A person's query over a session whose agent wrote what it liked: rows within limits, or a refusal."""
    layout = DataLayout(folder).session(GROUP, SESSION)
    with _opened(folder):
        layout.outbound.write_bytes(database(4096, loose=True, filled=True))

        def drive(query: str) -> None:
            answer = inspection.ask(layout, query, limit=50)
            assert len(answer.rows) <= 50
            json.dumps(answer.rows, allow_nan=False)

        yield drive


HISTORY = (
    Target("text", _text, TITLES, (), known=("a" + "\u0301\u0316" * 30_000, "\u0f73\u0f75" * 30_000)),
    Target("session-sql", _sql, SQL, (InvalidValue,)),
    of_bytes("history-file", _file, healthy_files, ()),
    Target(
        "history-rows",
        _rows,
        st.fixed_dictionaries({"messages_out": st.lists(MESSAGES, max_size=3), "steps": st.lists(STEPS, max_size=3)}),
        (FileTrouble,),
    ),
    Target("history-query", _query, QUERIES, ()),
    of_bytes("import-file", _import, exports, (InvalidValue,), known=(b'{"type":' * 50_000,)),
)
