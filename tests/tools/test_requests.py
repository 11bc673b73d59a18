"""Asking the host: the row that goes out, the row that comes back, and what becomes of one that is lost."""

from __future__ import annotations

import asyncio
import json

from container_agent.tools import requests
from container_agent.tools.toolbox import Toolbox
from host.delivery.request import MAX_ANSWER
from shared_schema.rows import encode
from tests.support.wait import until
from tests.tools.bench import Turn


def box(turn: Turn) -> Toolbox:
    return Toolbox(requests.tools(turn.tool_context, attempt_seconds=0.3), turn.out.set_tool)


async def test_a_request_is_a_row_and_its_answer_is_found_by_its_id(turn: Turn) -> None:
    call = asyncio.create_task(box(turn).call("search_messages", {"query": "tea"}))
    await until(lambda: bool(turn.out.sent), "it is asked")
    (row,) = turn.out_rows()
    assert row["kind"] == "system"
    assert row["content"] == {
        "text": "",
        "request": "search_messages",
        "arguments": {"query": "tea", "since": "7d", "limit": 50},
    }
    turn.answer("msg_0000000000000000", result=["another's"])
    turn.answer(row["id"], result=[{"text": "tea at five"}])
    assert "tea at five" in await call
    assert "another's" not in await call


async def test_the_longest_answer_of_the_host_is_told_whole(turn: Turn) -> None:
    hit = {"session": "ses_0123456789abcdef", "sender": "Ann", "text": "\n\t" * 40, "is": None}
    hits = [hit] * (MAX_ANSWER // len(encode(hit)))
    call = asyncio.create_task(box(turn).call("search_messages", {"query": "tea", "limit": 200}))
    await until(lambda: bool(turn.out.sent), "it is asked")
    turn.answer(turn.out_rows()[0]["id"], result=hits)
    assert json.loads(await call) == hits


async def test_a_refusal_of_the_host_is_an_error_and_an_empty_answer_says_so(turn: Turn) -> None:
    for content, said in (
        ({"error": "'x' is not a time"}, "Error: 'x' is not a time"),
        ({"result": []}, "Nothing was found."),
    ):
        count = len(turn.out.sent)
        call = asyncio.create_task(box(turn).call("list_sessions", {}))
        await until(lambda count=count: len(turn.out.sent) > count, "it is asked")
        turn.answer(turn.out_rows()[-1]["id"], **content)
        assert await call == said


async def test_a_request_that_was_lost_is_asked_again(turn: Turn) -> None:
    call = asyncio.create_task(box(turn).call("read_history", {}))
    await until(lambda: len(turn.out.sent) == 2, "it is asked again")
    turn.answer(turn.out_rows()[1]["id"], result=["here"])
    assert "here" in await call


async def test_a_host_that_never_answers_is_an_error_after_three_attempts(turn: Turn) -> None:
    assert await box(turn).call("read_history", {}) == "Error: the host did not answer: try again later"
    assert len(turn.out.sent) == 3
