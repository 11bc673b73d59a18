"""A tool, an image or a history that a service refuses: the conversation goes on without it, and says so once.

FAILURES 54.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from container_agent.providers.model_abilities import Abilities, RefusedRequest, learn, mark_of
from container_agent.providers.model_seams import ToolDefinition, TurnSetup
from container_agent.providers.protocol import TurnOutput, TurnRequest
from tests.agent.session import BareSession
from tests.platforms.model_server import ModelServer
from tests.providers.subjects import MODELS, model_agent
from tests.providers.test_model import PNG

every = pytest.mark.parametrize("model", MODELS)


@dataclass(frozen=True)
class Described:
    name: str
    description: str = "Does something."
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


TOOLS = [Described("list_files"), Described("good__find"), Described("bad__find"), Described("other__look")]


class Box:
    definitions: Sequence[ToolDefinition] = TOOLS

    async def call(self, name: str, arguments: object, call_id: str = "") -> str:
        return f"{name} was called"


async def set_up(request: TurnRequest, out: TurnOutput) -> TurnSetup:
    return TurnSetup("You have tools.", request.note, Box())


def tools_of(body: dict[str, Any]) -> list[str]:
    """The names of the tools of a request, whatever its format."""
    found = []
    for tool in body.get("tools") or []:
        for each in tool.get("functionDeclarations") or [tool.get("function") or tool]:
            found.append(each["name"])
    return found


def shows(body: dict[str, Any]) -> bool:
    return base64.b64encode(PNG).decode() in json.dumps(body).replace("-", "+").replace("_", "/")


def unless(condition: Callable[[dict[str, Any]], bool], words: str) -> Callable[[dict[str, Any]], str | None]:
    return lambda body: words if condition(body) else None


REFUSALS_OF_A_TOOL = {
    "by its name": "Invalid schema for function 'bad__find': schema must be a JSON Schema of 'type: \"object\"'.",
    "by its place": "tools.2.custom.input_schema: JSON schema is invalid. It must match JSON Schema draft 2020-12",
    "by its place in brackets": "Invalid value: tools[2].function.parameters",
    "as Google does": "* GenerateContentRequest.tools[0].function_declarations[2].parameters.properties: is empty",
}


@every
@pytest.mark.parametrize("refusal", REFUSALS_OF_A_TOOL)
async def test_one_bad_tool_is_left_out_and_the_others_work(
    session: BareSession, server: ModelServer, model: str, refusal: str
) -> None:
    server.refuses = unless(lambda body: "bad__find" in tools_of(body), REFUSALS_OF_A_TOOL[refusal])
    async with model_agent(session, server, model, set_up=set_up) as agent:
        first = await agent.ask("call good__find {}\nthen\nsay found")
        assert len(first.replies) == 1
        assert first.replies[0].startswith("found\n\n[")
        assert "'bad__find'" in first.replies[0]
        assert REFUSALS_OF_A_TOOL[refusal].split(":")[0] in first.turn["detail"]
        asked = len(server.requests)
        assert (await agent.ask("say again")).replies == ["again"]
        assert len(server.requests) == asked + 1
    async with model_agent(session, server, model, set_up=set_up) as agent:  # another process of the same session
        assert (await agent.ask("say later")).replies == ["later"]
    assert [tools_of(request.body) for request in server.requests[1:]] == [
        ["list_files", "good__find", "other__look"] for _ in server.requests[1:]
    ]


@every
async def test_a_schema_that_nobody_names_costs_the_foreign_tools_and_not_the_conversation(
    session: BareSession, server: ModelServer, model: str
) -> None:
    server.refuses = unless(lambda body: "bad__find" in tools_of(body), "Invalid JSON schema.")
    async with model_agent(session, server, model, set_up=set_up) as agent:
        outcome = await agent.ask("say fine")
    assert outcome.replies[0].startswith("fine\n\n[")
    assert tools_of(server.requests[-1].body) == ["list_files"]


@every
@pytest.mark.parametrize(
    "words",
    [
        "registry.ollama.ai/library/gemma:latest does not support tools",
        "No endpoints found that support tool use. Try disabling tools.",
        "`tool use` is not supported by this model",
    ],
)
async def test_a_model_without_tools_answers_without_them(
    session: BareSession, server: ModelServer, model: str, words: str
) -> None:
    server.refuses = unless(lambda body: bool(tools_of(body)), words)
    async with model_agent(session, server, model, set_up=set_up) as agent:
        outcome = await agent.ask("say fine")
        assert outcome.replies[0].startswith("fine\n\n[")
        assert (await agent.ask("say again")).replies == ["again"]
    assert len(server.requests) == 3


@every
@pytest.mark.parametrize(
    "words",
    [
        "this model does not support image input",
        "Failed to deserialize the JSON body: unknown variant `image_url`, expected `text`",
        "gemma is not a multimodal model",
        "Bad RefusedRequest",
        "Could not process image",
    ],
)
async def test_a_picture_for_a_model_without_eyes(
    session: BareSession, server: ModelServer, model: str, words: str
) -> None:
    server.refuses = unless(shows, words)
    async with model_agent(session, server, model) as agent:
        first = await agent.outcome(agent.say("say four", files={"a.png": PNG}))
        assert first.replies[0].startswith("four\n\n[")
        assert "image" in first.replies[0]
        assert (await agent.ask("say hello")).replies == ["hello"]
    assert len(server.requests) == 3
    assert "inbox/f/a.png is not shown: this model does not take it" in json.dumps(server.requests[-1].body)


@every
async def test_another_model_sees_the_picture_again(session: BareSession, server: ModelServer, model: str) -> None:
    server.refuses = unless(shows, "this model does not support image input")
    async with model_agent(session, server, model) as agent:
        await agent.outcome(agent.say("say four", files={"a.png": PNG}))
        server.refuses = lambda body: None
        session.context(provider="model", model=f"{MODELS[model]}-with-eyes")
        await agent.ask("say seen")
    assert shows(server.requests[-1].body)


@every
async def test_a_history_that_a_service_does_not_take_is_told_as_text(
    session: BareSession, server: ModelServer, model: str
) -> None:
    def has_calls(body: dict[str, Any]) -> bool:
        return any(
            word in json.dumps(body.get("messages") or body.get("contents"))
            for word in ('"tool_calls"', '"tool_use"', '"functionCall"')
        )

    async with model_agent(session, server, model, set_up=set_up) as agent:
        await agent.ask("call good__find {}\nthen\nsay found")
        words = "Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9."
        server.refuses = unless(has_calls, words)
        outcome = await agent.ask("say fine")
        assert outcome.replies[0].startswith("fine\n\n[")
        assert (await agent.ask("say again")).replies == ["again"]
    assert "good__find was called" in json.dumps(server.requests[-1].body)


@every
async def test_what_nothing_helps_against_fails_after_few_requests_and_teaches_nothing(
    session: BareSession, server: ModelServer, model: str
) -> None:
    async with model_agent(session, server, model, set_up=set_up) as agent:
        await agent.outcome(agent.say("say seen", files={"a.png": PNG}))
        asked = len(server.requests)
        server.refuses = lambda body: "Bad RefusedRequest"
        outcome = await agent.ask("say never")
        assert outcome.turn["failure_reason"] == "bad_input"
        assert len(server.requests) - asked == 4  # as it was, without images, without tools, as plain text
        server.refuses = lambda body: None
        assert (await agent.ask("say fine")).replies == ["fine"]
    assert shows(server.requests[-1].body)
    assert len(tools_of(server.requests[-1].body)) == 4


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "Invalid API key for function 'bad__find'"), (429, "slow down"), (400, ""), (500, "Internal error")],
)
def test_what_teaches_nothing(status: int, words: str) -> None:
    assert learn(Abilities(), status, words, RefusedRequest(), "'m'") is None


def test_another_description_of_a_tool_is_another_attempt() -> None:
    known = Abilities(tools=frozenset({mark_of(TOOLS[2])}))
    assert Described("bad__find", "Mended.") in known.offered([*TOOLS, Described("bad__find", "Mended.")])
    assert TOOLS[2] not in known.offered(TOOLS)
    assert Abilities.from_text(known.to_text()) == known
    assert Abilities.from_text("{nonsense") == Abilities()


def test_a_service_that_takes_only_so_many_tools_gets_so_many() -> None:
    words = "Invalid 'tools': array too long. Expected an array with maximum length 3, but got 4."
    lesson = learn(Abilities(), 400, words, RefusedRequest(TOOLS), "'m'")
    assert lesson is not None
    assert [tool.name for tool in lesson.abilities.offered(TOOLS)] == ["list_files", "good__find", "bad__find"]
