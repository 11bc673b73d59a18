"""Tricks with what an agent may ask of the host: too much, of others, without a form, and the same under one id."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from typing import Any

from tests.hostile.session import Session, Statement, ack, new, now

_TOLD = 60  # in a minute, which no trick takes: 30 that are answered, and 30 that say why not
_ROOM = 100_000  # characters of an answer
_SECONDS = 15.0

_REQUEST = "INSERT INTO messages_out (id, generation, timestamp, kind, content) VALUES (?, ?, ?, 'system', ?)"


def _request(at: Session, message: str, name: object, **arguments: Any) -> Statement:
    return at.row(message, "", kind="system", content=json.dumps({"request": name, "arguments": arguments}))


def _answers(at: Session, count: int, seconds: float = _SECONDS) -> list[dict[str, Any]]:
    """The answers of the host; waits for so many, and not for ever."""
    deadline = time.monotonic() + seconds
    while True:
        found = at.asked("SELECT content FROM messages_in WHERE kind = 'system' ORDER BY seq")
        if len(found) >= count or time.monotonic() > deadline:
            return [json.loads(content) for (content,) in found]
        at.beat()
        time.sleep(0.02)


def _done(at: Session, message: str, wrong: object) -> None:
    """Say that the host did as it should, or what it did."""
    at.reply(message, f"the host let it have {wrong!s:.500}" if wrong else "done")


def requests_without_end(at: Session, message: str) -> None:
    """Thousands of them: few are answered, and few more are told why not."""
    generation, content = at.generation(), json.dumps({"request": "list_sessions"})
    at.beat()
    at.many(_REQUEST, ((f"msg_{n:016x}", generation, now(), content) for n in range(at.sizes.refusals)))
    for _ in range(20):  # and it goes on
        at.beat()
        at.write([(_REQUEST, (new("msg"), generation, now(), content)) for _ in range(50)])
        time.sleep(0.02)
    found = _answers(at, _TOLD + 1, 1.0)
    _done(at, message, len(found) if not 0 < len(found) <= _TOLD else [a for a in found if len(str(a)) > _ROOM])


def requests_about_others(at: Session, message: str) -> None:
    """By the ids of the others' sessions, and by what they say; where nobody can be seen, by invented ones."""
    theirs = [*(other.name for other in at.others()[:5] if other.parent != at.folder.parent), new("ses")]
    statements = [_request(at, message, "search_messages", query='"scripted: number"', since="99w", limit=200)]
    for name in theirs:
        statements.append(_request(at, message, "read_history", session=name))
        statements.append(_request(at, message, "search_messages", query="number", session=name))
    for more in ({"scope": theirs}, {"agent_group": "assistant"}, {"messaging_group": "memory:one"}):
        statements.append(_request(at, message, "search_messages", query="number", **more))
    at.write(statements)
    found = _answers(at, len(statements))
    _done(at, message, len(found) != len(statements) or [answer for answer in found if answer.get("result")])


def requests_without_a_form(at: Session, message: str) -> None:
    """Names, arguments and sizes that no request has; and answers to what nobody has asked."""
    bad = [
        '{"request": 7}', '{"request": null, "arguments": {}}', '{"request": "list_sessions", "arguments": [1]}',
        json.dumps({"request": "x" * 100_000}), '{"request": "\\ud800"}', '{"request": "list_sessions", "arguments":1}',
        json.dumps({"request": "search_messages", "arguments": {"query": "x" * 90_000}}), '{"request": {}}',
        '{"request": "search_messages", "arguments": {"query": "\\ud800"}}', '{"request": "a", "a": ' + "[" * 90_000,
        '{"answer_to": "msg_0123456789abcdef", "result": "x"}', '{"title": "mine"}',
        json.dumps({"request": "list_sessions", "arguments": {"limit": 10**30}}),
    ]  # fmt: skip
    at.write([at.row(message, "", kind="system", content=content) for content in bad])
    asked = [_request(at, message, name) for name in ("", "a\0b", "DROP TABLE sessions", "list_sessions ")]
    asked += [_request(at, message, "list_sessions", limit=limit) for limit in (0, -1, 2**62, 1.5, True, "1", [1])]
    at.write([*asked, *(_request(at, message, "read_history", session=name) for name in ("", "..", "%", 7))])
    found = _answers(at, len(asked) + 4)
    _done(at, message, len(found) != len(asked) + 4 or [answer for answer in found if "error" not in answer])


def a_request_that_changes(at: Session, message: str) -> None:
    """One id, first with one content and then with others: it is answered once."""
    with closing(sqlite3.connect(at.database, isolation_level=None)) as connection:
        ((create,),) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'messages_out'").fetchall()
        connection.execute("DROP TABLE messages_out")
        connection.execute(create.replace(" UNIQUE", ""))
        connection.execute("INSERT INTO sqlite_sequence VALUES ('messages_out', 100)")
    again = new("msg")
    generation, first = at.generation(), json.dumps({"request": "list_sessions"})
    at.write([(_REQUEST, (again, generation, now(), first))])
    _answers(at, 1)
    others = [json.dumps({"request": "read_history", "arguments": {"limit": limit}}) for limit in range(1, 10)]
    at.write([(_REQUEST, (again, generation, now(), content)) for content in others])
    at.write([_request(at, message, "list_sessions")])
    found = [answer for answer in _answers(at, 2) if answer["answer_to"] == again]
    wrong = len(found) != 1 or "is_this_one" not in str(found)
    text = "the host answered again" if wrong else "done"
    at.write([at.row(message, text), ack(message)])
