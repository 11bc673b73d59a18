"""Answers that are not whole: cut off, empty, or broken; and what is kept and told of their ends (FAILURES 53)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from container_agent.providers.model_seams import ToolDefinition, TurnSetup
from container_agent.providers.model_streams import CallNumbers
from container_agent.providers.model_turn import GO_ON, MOST_CONTINUATIONS, NOTHING_SAID
from container_agent.providers.protocol import Reply, TurnOutput, TurnRequest
from shared_schema.rows import encode
from tests.agent.session import BareSession
from tests.platforms.model_answer import Answer, Ending, Fault, ToolUse
from tests.platforms.model_server import ModelServer
from tests.providers.subjects import MODELS, model_agent

every = pytest.mark.parametrize("model", MODELS)
CUT_WORDS = {"anthropic": "max_tokens", "openai": "length", "google": "MAX_TOKENS", "ollama": "length"}


@dataclass(frozen=True)
class Described:
    name: str
    description: str = "Does something."
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


@dataclass
class Writer:
    """A toolbox with a tool that writes, and one that sends to the chat of the turn."""

    written: list[object] = field(default_factory=list)
    out: TurnOutput | None = None

    @property
    def definitions(self) -> Sequence[ToolDefinition]:
        return [Described("write"), Described("send")]

    async def call(self, name: str, arguments: object, call_id: str = "") -> str:
        if name == "send":
            assert self.out is not None
            await self.out.send(Reply("said by a tool"))
            return "Sent."
        self.written.append(arguments)
        return "Written."

    async def set_up(self, request: TurnRequest, out: TurnOutput) -> TurnSetup:
        self.out = out
        return TurnSetup("You can write.", request.note, self)


def calls(name: str, arguments: str = "{}") -> Answer:
    return Answer(calls=(ToolUse(name, arguments),))


@every
async def test_an_answer_that_is_cut_off_is_gone_on_with(session: BareSession, server: ModelServer, model: str) -> None:
    server.next(Answer(text="1. first 2. sec", ending=Ending.CUT), Answer(text="ond 3. third"))
    async with model_agent(session, server, model) as agent:
        outcome = await agent.ask("list three things")
        assert outcome.replies == ["1. first 2. second 3. third"]
        await agent.ask("say fine")
    assert "1. first 2. sec" in json.dumps(server.requests[1].messages)
    assert GO_ON in json.dumps(server.requests[1].messages)
    assert [step["role"] for step in agent.steps()[:4]] == ["user", "assistant", "system", "assistant"]


@every
async def test_one_that_comes_to_no_end_is_told_to_be_cut_off_and_says_why(
    session: BareSession, server: ModelServer, model: str
) -> None:
    server.next(*[Answer(text="more ", ending=Ending.CUT) for _ in range(MOST_CONTINUATIONS + 5)])
    async with model_agent(session, server, model) as agent:
        outcome = await agent.ask("write for ever")
    (reply,) = outcome.replies
    assert reply.startswith("more" * 1)
    assert "This answer was cut off" in reply
    assert outcome.turn["stop_reason"] == CUT_WORDS[model]
    assert len(server.requests) == MOST_CONTINUATIONS + 1


@every
async def test_a_call_that_is_cut_off_is_not_carried_out(session: BareSession, server: ModelServer, model: str) -> None:
    server.next(Answer(calls=(ToolUse("write", {"text": "all"}), ToolUse("write", "{}")), ending=Ending.CUT))
    writer = Writer()
    async with model_agent(session, server, model, set_up=writer.set_up) as agent:
        outcome = await agent.ask("say never\nthen\nsay written")
    assert outcome.replies == ["written"]
    assert len(writer.written) == 1
    results = [step["content"] for step in agent.steps() if step["role"] == "tool"]
    assert results[0] == "Written."
    assert "this call was not made" in results[1]


@every
async def test_nothing_said_after_tools_is_asked_for_once(
    session: BareSession, server: ModelServer, model: str
) -> None:
    server.next(calls("write"), Answer(), Answer(text="It is written."))
    async with model_agent(session, server, model, set_up=Writer().set_up) as agent:
        outcome = await agent.ask("write it, then tell me")
    assert outcome.replies == ["It is written."]
    assert NOTHING_SAID in json.dumps(server.requests[-1].messages)


@every
async def test_nothing_said_at_all_after_tools_is_a_failure_in_a_sentence(
    session: BareSession, server: ModelServer, model: str
) -> None:
    server.next(calls("write"), Answer(), Answer())
    async with model_agent(session, server, model, set_up=Writer().set_up) as agent:
        outcome = await agent.ask("write it, then tell me")
        assert "had nothing to say after it had used its tools" in (outcome.error or "")
        await agent.ask("say fine")
    assert "Written." in json.dumps(server.requests[-1].messages)  # what the tools did is not forgotten


@every
async def test_a_tool_may_do_all_the_talking(session: BareSession, server: ModelServer, model: str) -> None:
    server.next(calls("send"), Answer())
    async with model_agent(session, server, model, set_up=Writer().set_up) as agent:
        outcome = await agent.ask("tell me by your tool")
    assert outcome.replies == ["said by a tool"]
    assert len(server.requests) == 2


async def test_a_heartbeat_may_end_without_a_word(session: BareSession, server: ModelServer) -> None:
    server.next(calls("write"), Answer())
    async with model_agent(session, server, "openai", set_up=Writer().set_up) as agent:
        session.context(provider="model", model=MODELS["openai"], kind="heartbeat")
        outcome = await agent.ask("anything to do?")
    assert (outcome.error, outcome.replies, len(server.requests)) == (None, [], 2)


def _chunk(delta: dict[str, Any], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


def _piece(index: int | None, name: str | None, arguments: str, call_id: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    piece: dict[str, Any] = {"function": function, "type": "function"}
    piece |= {} if index is None else {"index": index}
    return {"tool_calls": [piece | ({} if call_id is None else {"id": call_id})]}


ODD = {
    "all of them 0": [_piece(0, "write", '{"n":1}', "a"), _piece(0, "write", '{"n":2}', "b")],
    "all of them 0, without ids": [_piece(0, "write", '{"n":1}'), _piece(0, "write", '{"n":2}')],
    "none": [_piece(None, "write", '{"n"', "a"), _piece(None, None, ":1}"), _piece(None, "write", '{"n":2}', "b")],
    "skipped": [_piece(3, "write", '{"n":1}', "a"), _piece(7, "write", '{"n":2}', "b")],
    "the name in every piece": [
        _piece(0, "write", '{"n"', "a"),
        _piece(0, "write", ":1}", "a"),
        _piece(1, "write", '{"n"', "b"),
        _piece(1, "write", ":2}", "b"),
    ],
    "as it should be": [
        _piece(0, "write", "", "a"),
        _piece(0, None, '{"n":1}'),
        _piece(1, "write", "", "b"),
        _piece(1, None, '{"n":2}'),
    ],
}


@pytest.mark.parametrize("numbers", ODD)
@pytest.mark.parametrize("model", ["openai", "ollama"])
async def test_calls_are_told_apart_however_they_are_numbered(
    session: BareSession, server: ModelServer, model: str, numbers: str
) -> None:
    server.next(Answer(raw=(*map(_chunk, ODD[numbers]), _chunk({}, "tool_calls"))))
    writer = Writer()
    async with model_agent(session, server, model, set_up=writer.set_up) as agent:
        outcome = await agent.ask("say never\nthen\nsay done")
    assert outcome.replies == ["done"]
    assert [json.loads(str(arguments)) for arguments in writer.written] == [{"n": 1}, {"n": 2}]


def test_a_name_that_comes_in_pieces_is_one_name() -> None:
    numbers = CallNumbers()
    assert numbers.renumber(0, "a", "wri", "") == (0, "a", "wri")
    assert numbers.renumber(0, "", "te", "{}") == (0, "", "te")


@pytest.mark.parametrize("word", ["eos", "end_turn", "COMPLETE", "stop_sequence", "done"])
async def test_an_unknown_word_for_the_end_is_an_end(session: BareSession, server: ModelServer, word: str) -> None:
    """Without `[DONE]` and without usage, too."""
    server.next(Answer(raw=(_chunk({"role": "assistant", "content": "whole"}), _chunk({}, word))))
    async with model_agent(session, server, "openai") as agent:
        outcome = await agent.ask("hello")
    assert outcome.replies == ["whole"]
    assert outcome.turn["stop_reason"] == word
    assert outcome.turn["input_tokens"] is None


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("error", "provider_error"),
        ("insufficient_system_resource", "provider_error"),
        ("guardrail_intervened", "refused"),
    ],
)
async def test_a_word_for_a_failure_is_none(session: BareSession, server: ModelServer, word: str, reason: str) -> None:
    server.next(Answer(raw=(_chunk({"role": "assistant", "content": "half"}), _chunk({}, word))))
    async with model_agent(session, server, "openai") as agent:
        outcome = await agent.ask("hello")
    assert (outcome.turn["failure_reason"], outcome.turn["stop_reason"]) == (reason, word)


@every
async def test_the_end_of_a_usual_answer_is_kept(session: BareSession, server: ModelServer, model: str) -> None:
    async with model_agent(session, server, model) as agent:
        outcome = await agent.ask("say hello")
    assert outcome.turn["stop_reason"] in {"stop", "end_turn", "STOP"}
    assert outcome.turn["detail"] is None


@every
async def test_the_words_of_a_refusal_are_kept_for_whoever_runs_the_host(
    session: BareSession, server: ModelServer, model: str
) -> None:
    said = "Unsupported parameter: 'x' with sk-proj-0123456789abcdef " + "and so on " * 1000
    server.next(Answer(fault=Fault.REJECTED, words=said))
    async with model_agent(session, server, model) as agent:
        outcome = await agent.ask("hello")
    detail = outcome.turn["detail"]
    assert detail.startswith("400: Unsupported parameter: 'x' with [key] and so on")
    assert len(detail) <= 2000
    assert "Unsupported" not in (outcome.error or "")


@every
async def test_a_hint_does_not_advise_what_just_failed(session: BareSession, server: ModelServer, model: str) -> None:
    async with model_agent(session, server, model) as agent:
        assert "/compress" in ((await agent.ask("too-long")).error or "")
        server.next(Answer(fault=Fault.TOO_LONG))
        outcome = await agent.ask("", kind="control", content=encode({"do": "summarize"}))
    assert outcome.error == "the conversation is too long for its model even to be summed up; /new begins afresh"


@pytest.mark.parametrize(
    "answer", [Answer(fault=Fault.STATUS, status=405), Answer(raw=('{"error":"Unexpected endpoint or method."}',))]
)
async def test_a_url_that_is_wrong_is_not_the_models_fault(
    session: BareSession, server: ModelServer, answer: Answer
) -> None:
    server.next(answer)
    model = f"openai:m@{server.url}/v1"
    async with model_agent(session, server, model) as agent:
        outcome = await agent.ask("hello")
    assert "URL may be wrong" in (outcome.error or "")
    assert "/v1" in (outcome.error or "")
