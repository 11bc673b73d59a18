"""Transcripts of any kind become requests that the vendors take: the fake server refuses what they refuse."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest

from container_agent.context import SessionContext
from container_agent.providers.model import ModelProvider
from container_agent.providers.protocol import Reply, Step, TurnRequest
from shared_schema.rows import MessageIn, encode
from tests.agent.session import BareSession
from tests.platforms.model_server import ModelServer
from tests.providers.subjects import MODELS, environment

every = pytest.mark.parametrize("model", MODELS)


class Silent:
    """A `TurnOutput` that keeps nothing."""

    async def send(self, reply: Reply) -> str:
        return ""

    def append_steps(self, steps: Sequence[Step]) -> None: ...

    def set_tool(self, name: str | None, seconds: float | None = None) -> None: ...


async def heard(session: BareSession, server: ModelServer, model: str, *histories: Sequence[Step]) -> list[str]:
    """The messages, as JSON, with which the model is asked after each history."""
    provider = ModelProvider(environment(server))
    values = dict.fromkeys(MessageIn.__match_args__) | {"id": "m", "seq": 1, "trigger": 1, "kind": "chat"}
    message = MessageIn(**values | {"content": encode({"text": "say fine"})})
    try:
        for history in histories:
            request = TurnRequest(
                messages=(message,),
                context=SessionContext(model=MODELS[model]),
                destinations=(),
                workspace=session.workspace,
                session=session.layout,
                recorded=lambda steps=history: steps,
            )
            result = await provider.run(request, Silent())
            assert [reply.text for reply in result.replies] == ["fine"]
    finally:
        await provider.aclose()
    return [json.dumps(request.messages, ensure_ascii=False) for request in server.requests]


def calls(*ids: str, name: str = "add") -> str:
    return json.dumps([{"id": call_id, "name": name, "arguments": '{"a": 1}'} for call_id in ids])


@every
async def test_a_call_without_a_result_gets_one_that_says_so(
    session: BareSession, server: ModelServer, model: str
) -> None:
    history = [
        Step("user", "hi"),
        Step("assistant", "wait", tool_calls=calls("one", "two")),
        Step("tool", "2", "add", "two"),
    ]
    (wire,) = await heard(session, server, model, history)
    assert "interrupted" in wire.lower()
    assert wire.count('"two"') == 2


@every
async def test_a_result_without_a_call_is_left_out(session: BareSession, server: ModelServer, model: str) -> None:
    history = [Step("tool", "lost", "add", "one"), Step("user", "hi"), Step("tool", "lost", "add", None)]
    (wire,) = await heard(session, server, model, history)
    assert "lost" not in wire


@every
async def test_ids_that_come_twice_or_are_no_ids_are_replaced(
    session: BareSession, server: ModelServer, model: str
) -> None:
    history = [
        step
        for _ in range(2)
        for step in (
            Step("user", "hi"),
            Step("assistant", tool_calls=calls("the same", "again")),
            Step("tool", "first", "add", "the same"),
            Step("tool", "second", "add", "again"),
        )
    ]
    (wire,) = await heard(session, server, model, history)
    assert (wire.count("first"), wire.count("second")) == (2, 2)


@every
async def test_calls_as_the_vendors_write_them_are_understood(
    session: BareSession, server: ModelServer, model: str
) -> None:
    written = [
        {"id": "a", "type": "function", "function": {"name": "read", "arguments": '{"path": "x"}'}},
        {"type": "tool_use", "id": "b", "name": "write", "input": {"path": "y"}},
    ]
    history = [Step("user", "hi"), Step("assistant", tool_calls=json.dumps(written))]
    (wire,) = await heard(session, server, model, history)
    assert all(word in wire for word in ("read", "write", "path"))


@every
async def test_lists_of_parts_are_told_as_text(session: BareSession, server: ModelServer, model: str) -> None:
    parts = json.dumps([{"type": "text", "text": "one part"}, {"type": "odd"}, {"type": "text", "text": "another"}])
    (wire,) = await heard(session, server, model, [Step("user", parts), Step("assistant", parts)])
    assert (wire.count("one part"), wire.count("another"), wire.count("odd")) == (2, 2, 0)


@every
async def test_the_same_history_is_always_told_the_same(session: BareSession, server: ModelServer, model: str) -> None:
    history = [Step("user", "hi"), Step("assistant", "a", tool_calls=calls("x y", "")), Step("user", "and?")]
    first, second = await heard(session, server, model, history, history)
    assert first == second


@every
async def test_any_transcript_can_be_told(session: BareSession, server: ModelServer, model: str) -> None:
    draw = random.Random(5)
    roles = ("user", "assistant", "assistant", "tool", "tool", "system", "")
    texts = (
        None,
        "",
        " ",
        "text",
        "\ud83d",
        "[1, 2]",
        '[{"type": 1}]',
        '[{"type": "image", "path": "../x"}]',
        "[" * 9999,
    )
    called = (
        None,
        None,
        "{",
        "{}",
        "[]",
        "[1]",
        '[{"id": 5}]',
        '[{"function": 3, "name": "a b"}]',
        calls("a", "b"),
        calls("a"),
        calls("a", name="9_lives"),
    )
    histories = [
        [
            Step(
                draw.choice(roles),
                draw.choice(texts),
                draw.choice((None, "add", "a b")),
                draw.choice((None, "", "a", "b", "5")),
                draw.choice(called),
                draw.choice((None, "hm")),
                draw.choice((None, "{")),
            )
            for _ in range(draw.randrange(12))
        ]
        for _ in range(60)
    ]
    assert len(await heard(session, server, model, *histories)) == len(histories)
