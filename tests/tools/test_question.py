"""Asking a person, and every way in which the answer may come."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

import pytest

from container_agent.tools.question import chosen
from shared_schema.clock import SystemClock, from_text
from tests.agent.session import BareSession
from tests.support.wait import until
from tests.tools.bench import Turn

ASKED = {"question": "Which colour?", "options": ["Red", "Dark blue"], "seconds": 20}


async def begun(turn: Turn) -> tuple[asyncio.Task[str], str]:
    """The call, and the id of the question that was sent."""
    box = await turn.tools()
    call = asyncio.create_task(box.call("ask_user_question", ASKED))
    await until(lambda: bool(turn.out.sent), "it is asked")
    return call, turn.out_rows()[-1]["id"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("2", "Answer: Dark blue (option 2)"),
        ("2.", "Answer: Dark blue (option 2)"),
        ("dark  BLUE", "Answer: Dark blue (option 2)"),
        ("none of these", "Answer: none of these"),
        ("3", "Answer: 3"),
    ],
)
async def test_the_next_message_in_the_chat_is_the_answer_and_part_of_the_turn(
    turn: Turn, session: BareSession, said: str, told: str
) -> None:
    call, _ = await begun(turn)
    session.say("in another chat", platform_id="elsewhere")
    session.say("context", trigger=0)
    answer = session.say(said)
    assert await call == told
    assert [message.id for message in turn.taken] == [answer]


async def test_a_button_answers_by_the_id_of_the_question(turn: Turn) -> None:
    call, question = await begun(turn)
    turn.answer("msg_0000000000000000", answer="1")
    turn.answer(question, answer="1")
    assert await call == "Answer: Red (option 1)"
    assert turn.taken == []


async def test_the_question_reads_well_where_there_are_no_buttons(turn: Turn, session: BareSession) -> None:
    call, _ = await begun(turn)
    (row,) = turn.out_rows()
    assert row["kind"] == "question"
    assert row["content"]["text"] == "Which colour?\n1. Red\n2. Dark blue"
    session.say("1")
    await call


async def test_nobody_answers_and_the_tool_says_so(turn: Turn) -> None:
    box = await turn.tools()
    said = await box.call("ask_user_question", {"question": "Anybody?", "seconds": 1})
    assert said.startswith("No answer came within 1 seconds.")
    assert turn.out.named[0][0] == "ask_user_question"
    assert (turn.out.named[0][1] or 0) > 1


async def test_a_question_waits_no_longer_than_the_turn_has_time(session: BareSession) -> None:
    turn = Turn(session, seconds=3)
    said = await (await turn.tools()).call("ask_user_question", {"question": "Anybody?", "seconds": 3600})
    assert re.match("No answer came within [12] seconds, which is all that this turn had left. ", said)
    expires = from_text(turn.out_rows()[0]["content"]["expires"])
    assert expires < SystemClock().now() + timedelta(seconds=3)


async def test_an_agent_that_died_over_a_question_finds_it_open_and_asks_nobody_twice(session: BareSession) -> None:
    first = Turn(session)
    call, _ = await begun(first)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    session.say("red")  # while no agent lives
    again = Turn(session, message_id=first.message_id)
    assert await (await again.tools()).call("ask_user_question", ASKED) == "Answer: Red (option 1)"
    assert again.out.sent == []


async def test_the_same_question_after_an_answer_is_a_new_one(turn: Turn, session: BareSession) -> None:
    box = await turn.tools()
    for number, said in enumerate(["1", "2"], 1):
        call = asyncio.create_task(box.call("ask_user_question", ASKED))
        await until(lambda number=number: len(turn.out.sent) == number, "it is asked")
        session.say(said)
        assert (await call).endswith(f"(option {said})")


def test_an_option_is_meant_by_number_or_text() -> None:
    options = [{"id": "1", "label": "Yes"}, {"id": "2", "label": "2"}]
    assert chosen(" (1) ", options) == options[0]
    assert chosen("yes", options) == options[0]
    assert chosen("yes please", options) is None
    assert chosen("", options) is None
