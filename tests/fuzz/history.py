"""What history takes from agents, from people who search, and from files that are imported."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from host.history.feed import History
from host.history.search import Filters, search
from host.operations.portable import sessions_in
from host.sessions.folder import Owner, make_data_folder, make_session_folder
from shared_schema.database import open_writer
from shared_schema.errors import FileTrouble, InvalidValue
from shared_schema.layout import DataLayout
from tests.fuzz.ledger import MESSAGE, OWNER, TURN
from tests.fuzz.outbound_file import database, healthy_files
from tests.fuzz.target import Drive, Target, of_bytes
from tests.fuzz.values import ANY_TEXT, TIME, content, fill, nearly_right

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
QUERIES = st.lists(st.one_of(PIECES, PIECES, ANY_TEXT), max_size=30).map("".join)


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


HISTORY = (
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
