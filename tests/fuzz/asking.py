"""What agents ask of the host: rows of kind `system`, and what comes back of a real history, which is their own.

Two agent groups live in one data folder. What the other one said must be in no answer, whatever is asked.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from host.central import agent_groups
from host.central.sessions import Session
from host.delivery.check import CheckedMessage, RowRefused, checked
from host.delivery.request import MAX_ANSWER, AgentRequest, RequestName, arguments_of, request_of
from host.operations.requests import Answers
from host.sessions import inbox
from host.sessions.folder import make_session_folder
from host.sessions.inbox import NewMessage
from host.sessions.redaction import Redaction
from shared_schema.errors import InvalidValue
from shared_schema.rows import Address, MessageOut, MessageOutKind, encode
from tests.fuzz import ledger
from tests.fuzz.history import PIECES, QUERIES
from tests.fuzz.ledger import OWNER, Ledger
from tests.fuzz.target import Drive, Target
from tests.fuzz.values import ANY_TEXT, JSON_VALUES, TIME, content, nearly_right
from tests.unit.registry import add_session

OWN, FOREIGN = "kitchen", "garden"
"""Words of the agent's own group, and of the other."""
SECRET = "4711-of-the-other"
"""Stands beside each foreign word, and is no part of what is asked."""
TITLE = f"the tea in the {FOREIGN}"
_ROOM = 1_000  # on top of the entries of an answer: the note of what was left out, and what holds them together


@contextmanager
def _row(folder: Path) -> Iterator[Drive]:
    """A row of kind `system` is a request, or none, or bad; and a request means something, or says why not."""

    def drive(body: str) -> None:
        request = request_of(_message_with(body))
        if request is None:
            return
        name, arguments = arguments_of(request)
        assert name in set(RequestName)
        assert all(value is None or isinstance(value, str | int) for value in arguments.values())

    yield drive


@contextmanager
def _asked(folder: Path) -> Iterator[Drive]:
    """Every request is answered once, in bounds, and with nothing of the other agent group."""
    with ledger.opened(folder) as there:
        names = _fill(there)

        def drive(value: tuple[str, dict[str, Any]]) -> None:
            name, arguments = value
            for key, said in arguments.items():
                if isinstance(said, str):
                    arguments = arguments | {key: names.get(said, said)}
            request = request_of(_message_with(json.dumps({"request": name, "arguments": arguments})))
            assert request is not None
            answer = there.run(_answer(there, request))
            assert SECRET not in answer
            assert len(answer) <= 2 * MAX_ANSWER + _ROOM  # quotes and line feeds count twice
            assert len(json.loads(answer).keys() & {"result", "error"}) == 1

        yield drive


def _message_with(body: str) -> CheckedMessage:
    row = MessageOut(
        1, "msg_00000000000000aa", None, None, 1, TIME, None, MessageOutKind.SYSTEM, None, None, None, None, body
    )
    return checked(row, max_text=100_000)


async def _answer(there: Ledger, request: AgentRequest) -> str:
    """The content of the row that a request brings, and then it is gone again."""
    answers = Answers(there.services, Redaction())  # afresh: how much may be asked in a minute is not what is tried
    answers.asked(there.session.id, request)
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name().startswith("answers ")))
    with closing(sqlite3.connect(there.folder.inbound, isolation_level=None)) as connection:
        ((text,),) = connection.execute("SELECT content FROM messages_in WHERE kind = 'system'").fetchall()
        connection.execute("DELETE FROM messages_in WHERE kind = 'system'")
    return str(text)


def _fill(there: Ledger) -> dict[str, str]:
    """Two conversations of the agent group, and one of the other; what the words for them stand for."""

    def add(connection: sqlite3.Connection) -> tuple[Session, Session]:
        other = agent_groups.get_by_name(connection, "other")
        own = agent_groups.by_id(connection, there.session.agent_group_id)
        assert own is not None
        mine = add_session(connection, own, "shared/memory/mine")
        theirs = add_session(connection, other, f"shared/memory/{SECRET}")
        connection.execute("UPDATE sessions SET title = ? WHERE id = ?", (TITLE, theirs.id))
        return mine, theirs

    mine, theirs = there.run(there.central.write(add))
    for session, word, count in ((there.session, OWN, 5), (mine, OWN, 300), (theirs, f"{FOREIGN} {SECRET}", 300)):
        layout = there.layout.session(session.agent_group_id, session.id)
        make_session_folder(layout, OWNER)
        inbox.update(layout, messages=[_message(session, word, number) for number in range(count)])
        there.services.history.touched(session.id, session.agent_group_id)
    return {"<own>": mine.id, "<theirs>": theirs.id, "<prefix>": theirs.id[:9], "<title>": TITLE}


def _message(session: Session, word: str, number: int) -> NewMessage:
    said = encode({"text": f"the tea number {number} is in the {word} " + "x" * 200})
    message_id = f"msg_{session.id[-8:]}{number:08x}"
    return NewMessage(message_id, "chat", TIME, 1, 1, Address("memory", "one"), "ann", word, said)


NAMES = st.sampled_from(("<own>", "<theirs>", "<prefix>", "<title>", "ses_", "1", "agr_0123456789abcdef", FOREIGN))
TIMES = st.sampled_from(("7d", "99999w", "0m", "2026-02-28", "0001-01-01", "9999-12-31T23:59:59+14:00", "2026-W09"))
ARGUMENTS = nearly_right(
    JSON_VALUES,
    query=st.one_of(QUERIES, PIECES, st.sampled_from(("the", "tea", OWN, FOREIGN, f'"{FOREIGN}"', "t*"))),
    session=NAMES | st.none(),
    sender=st.sampled_from((None, "ann", OWN, FOREIGN)),
    since=st.just("99w") | TIMES,
    until=st.none() | TIMES,
    limit=(1, 50, 100, 200, None),
    scope=(None,),
    agent_group=(None,),
)


def _of_its_form(value: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Mostly the arguments that there are; the host refuses all others at once."""
    name, arguments = value
    known: dict[str, Sequence[str]] = {"list_sessions": ("limit",), "read_history": ("session", "limit")}
    return name, {
        key: said
        for key, said in arguments.items()
        if said is not None and key in known.get(name, ("query", "session", "sender", "since", "until", "limit"))
    }


REQUESTS = st.tuples(st.sampled_from(RequestName), ARGUMENTS).map(_of_its_form)

ASKING = (
    Target(
        "agent-request",
        _row,
        content(
            request=st.sampled_from(RequestName) | ANY_TEXT,
            arguments=ARGUMENTS.map(lambda found: {key: said for key, said in found.items() if said is not None}),
        ),
        (RowRefused, InvalidValue),
    ),
    Target(
        "agent-question",
        _asked,
        st.one_of(REQUESTS, REQUESTS, st.tuples(st.sampled_from(RequestName) | ANY_TEXT, ARGUMENTS)),
        (RowRefused,),
        known=(
            ("search_messages", {"query": "tea", "limit": 200, "since": "9999w"}),
            ("read_history", {"session": "<theirs>"}),
            ("read_history", {"session": "<title>"}),
            ("list_sessions", {"limit": 100}),
            ("search_messages", {"query": "\ud800"}),
            ("\ud800", {}),
        ),
    ),
)
