"""What the provider `model` does beyond the contract suite: tools, images, retries, the gateway's words, errands."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from container_agent.context import SessionContext
from container_agent.providers.model import ModelProvider
from container_agent.providers.model_seams import ToolDefinition, TurnSetup
from container_agent.providers.model_turn import MOST_REQUESTS
from container_agent.providers.protocol import Reply, Step, TurnOutput, TurnRequest
from shared_schema.rows import MessageIn, encode
from tests.agent.session import BareSession
from tests.platforms.model_answer import Answer, Ending, Fault, ToolUse
from tests.platforms.model_server import ModelServer, Request
from tests.providers.subjects import MODELS, environment, model_agent

every = pytest.mark.parametrize("model", MODELS)


@dataclass(frozen=True)
class Described:
    """A tool's definition."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass
class Adder:
    """A toolbox with one tool, which adds; it keeps what it was called with."""

    called: list[tuple[str, object, str]] = field(default_factory=list)

    @property
    def definitions(self) -> Sequence[ToolDefinition]:
        number = {"type": "number"}
        form = {"type": "object", "properties": {"a": number, "b": number}, "required": ["a", "b"]}
        return [Described("add", "Adds two numbers.", form)]

    async def call(self, name: str, arguments: object, call_id: str = "") -> str:
        self.called.append((name, arguments, call_id))
        values = _object(arguments)
        return str(values["a"] + values["b"]) if name == "add" else f"Error: there is no tool '{name}'"

    async def set_up(self, request: TurnRequest, out: TurnOutput) -> TurnSetup:
        """Each turn gets this toolbox."""
        return TurnSetup("You can add.", request.note, self)


@every
async def test_tools_are_called_in_order_and_their_results_are_told(
    session: BareSession, server: ModelServer, model: str
) -> None:
    adder = Adder()
    async with model_agent(session, server, model, set_up=adder.set_up) as agent:
        outcome = await agent.ask(
            'say let me see\ncall add {"a": 1, "b": 2}\ncall add {"a": 3, "b": 4}\nthen\nsay 3, 7'
        )
        assert outcome.replies == ["3, 7"]
        await agent.ask("say bye")
    assert [_object(arguments) for _, arguments, _ in adder.called] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    steps = agent.steps()
    assert [step["role"] for step in steps[:5]] == ["user", "assistant", "tool", "tool", "assistant"]
    assert [step["content"] for step in steps[2:4]] == ["3", "7"]
    assert steps[2]["tool_call_id"] == json.loads(steps[1]["tool_calls"])[0]["id"]
    first, second, third = (request.body for request in server.requests)
    assert first["tools"] == second["tools"] == third["tools"]
    asked, again = (request.messages for request in server.requests[1:])
    assert again[: len(asked) - 1] == asked[:-1] or model != "openai"
    assert json.dumps(third).count('"7"') == 1


@pytest.mark.parametrize("model", ["anthropic", "google"])
async def test_reasoning_goes_back_signed_within_its_turn_and_is_kept_for_people(
    session: BareSession, server: ModelServer, model: str
) -> None:
    signature = {"anthropic": "signature-1", "google": base64.b64encode(b"signature-1").decode()}[model]
    async with model_agent(session, server, model, set_up=Adder().set_up) as agent:
        await agent.ask('think I must add\ncall add {"a": 1, "b": 2}\nthen\nsay 3')
        assert [step["reasoning"] for step in agent.steps()] == [None, "I must add", None, None]
        await agent.ask("say bye")
    _, second, third = (json.dumps(request.body) for request in server.requests)
    assert signature in second
    assert signature not in third
    assert "I must add" not in third.replace("think I must add", "")


@every
async def test_a_quota_that_is_used_up_is_not_asked_for_again(
    session: BareSession, server: ModelServer, model: str
) -> None:
    server.next(Answer(fault=Fault.NO_CREDIT, retry_after=0.01))
    async with model_agent(session, server, model) as agent:
        outcome = await agent.ask("say never")
    assert outcome.error == f"the account at {model} has nothing left to spend"
    assert len(server.requests) == 1


async def test_a_prompt_that_google_blocks_is_a_refusal(session: BareSession, server: ModelServer) -> None:
    server.next(Answer(ending=Ending.REFUSED))
    async with model_agent(session, server, "google") as agent:
        outcome = await agent.ask("say something bad")
        assert (outcome.turn["failure_reason"], outcome.replies) == ("refused", [])
        await agent.ask("say fine")
    assert "something bad" not in json.dumps(server.requests[-1].messages)


async def test_what_was_said_is_kept_when_something_unforeseen_ends_the_turn(
    session: BareSession, server: ModelServer
) -> None:
    async with model_agent(session, server, "anthropic", set_up=Adder().set_up) as agent:
        outcome = await agent.ask('say let me see\ncall add {"a": 1, "b": 2}\ncall add {"a": 1}')
        assert outcome.error == "the provider failed: KeyError"
        assert [step["content"] for step in agent.steps()[1:]] == ["let me see", "3"]


@every
async def test_a_call_of_a_tool_that_does_not_exist_is_answered(
    session: BareSession, server: ModelServer, model: str
) -> None:
    async with model_agent(session, server, model) as agent:
        outcome = await agent.ask("call fly {}")
    assert outcome.replies == ["The tool said: Error: there is no tool 'fly'"]


async def test_a_turn_makes_a_bounded_number_of_requests(session: BareSession, server: ModelServer) -> None:
    server.next(*[Answer(calls=(ToolUse("add", {"a": 1, "b": 1}),)) for _ in range(MOST_REQUESTS + 5)])
    async with model_agent(session, server, "anthropic", set_up=Adder().set_up) as agent:
        outcome = await agent.ask("add for ever")
    assert "came to no end within 50 requests" in (outcome.error or "")
    assert len(server.requests) == MOST_REQUESTS


@every
async def test_the_first_part_of_the_prompt_stays_the_same_and_comes_from_the_cache(
    session: BareSession, server: ModelServer, model: str
) -> None:
    session.context(context="Where you are. " * 50, reset_note="You were reset.")
    async with model_agent(session, server, model) as agent:
        for number in range(10):
            await agent.ask(f"say {number}")
    first, *later = ["\n\n".join(_system(request.body)) for request in server.requests]
    assert first == f"{'Where you are. ' * 50}\n\nYou were reset."
    assert set(later) == {"Where you are. " * 50}
    assert all(request.used.cache_read > 0 for request in server.requests[2:])


@every
async def test_images_are_shown_and_other_files_are_named(
    session: BareSession, server: ModelServer, model: str
) -> None:
    files = {"a.png": PNG, "b.pdf": b"%PDF-1.4", "c.png": b"not an image"}
    async with model_agent(session, server, model) as agent:
        message_id = agent.say("say seen", files=files)
        assert (await agent.outcome(message_id)).replies == ["seen"]
        await agent.ask("say again")
    for request in server.requests:
        wire = _wire(request)
        assert wire.count(base64.b64encode(PNG).decode()) == 1
        assert all(f"inbox/f/{name}" in wire for name in files)


@every
async def test_an_image_that_is_gone_is_named(session: BareSession, server: ModelServer, model: str) -> None:
    async with model_agent(session, server, model) as agent:
        await agent.outcome(agent.say("say seen", files={"a.png": PNG}))
        (session.layout.inbox / "f" / "a.png").unlink()
        await agent.ask("say again")
    assert "the image inbox/f/a.png is not shown again" in json.dumps(server.requests[-1].body)


@every
async def test_a_list_that_somebody_wrote_is_not_taken_for_parts(
    session: BareSession, server: ModelServer, model: str
) -> None:
    written = '[{"type": "image", "path": "../../etc/passwd"}]'
    async with model_agent(session, server, model) as agent:
        await agent.ask(written)
        await agent.ask("say again")
    assert all(json.dumps(written)[1:-1] in json.dumps(request.messages) for request in server.requests)


@every
async def test_an_image_outside_of_the_inbox_is_not_shown(
    session: BareSession, server: ModelServer, model: str
) -> None:
    (session.layout.folder / "x.png").write_bytes(PNG)
    files = [{"name": "x.png", "path": "inbox/../x.png", "size": len(PNG)}]
    session.layout.inbox.mkdir()
    async with model_agent(session, server, model) as agent:
        await agent.ask("", content=encode({"text": "say seen", "files": files}))
    assert base64.b64encode(PNG).decode() not in _wire(server.requests[-1])


@every
async def test_half_characters_do_no_harm(session: BareSession, server: ModelServer, model: str) -> None:
    async with model_agent(session, server, model) as agent:
        message_id = session.say("", content='{"text": "half \\ud83d"}')
        assert (await agent.outcome(message_id)).replies == ["You said: half ?"]


@every
async def test_a_short_rate_limit_is_waited_for(session: BareSession, server: ModelServer, model: str) -> None:
    server.next(Answer(fault=Fault.RATE_LIMIT, retry_after=0.05), Answer(fault=Fault.STATUS, status=500, retry_after=0))
    async with model_agent(session, server, model) as agent:
        outcome = await agent.ask("say at last")
    assert outcome.replies == ["at last"]
    assert len(server.requests) == 3


@every
@pytest.mark.parametrize("retry_after", [None, 21])
async def test_a_long_one_is_not(
    session: BareSession, server: ModelServer, model: str, retry_after: float | None
) -> None:
    server.next(Answer(fault=Fault.RATE_LIMIT, retry_after=retry_after))
    async with model_agent(session, server, model) as agent:
        outcome = await agent.ask("say never")
    assert outcome.turn["failure_reason"] == "rate_limited"
    assert len(server.requests) == 1


@every
async def test_there_are_two_more_attempts_at_most(session: BareSession, server: ModelServer, model: str) -> None:
    server.next(*[Answer(fault=Fault.OVERLOADED, retry_after=0.01) for _ in range(9)])
    async with model_agent(session, server, model) as agent:
        outcome = await agent.ask("say never")
    assert outcome.turn["failure_reason"] == "rate_limited"
    assert len(server.requests) == 3


@every
async def test_nothing_is_asked_again_once_something_was_said(
    session: BareSession, server: ModelServer, model: str
) -> None:
    async with model_agent(session, server, model) as agent:
        outcome = await agent.ask("drop")
        assert outcome.turn["failure_reason"] == "network"
        assert len(server.requests) == 1
        assert "half of it" in agent.steps()[1]["content"]
        await agent.ask("say go on")
    assert "half of it" in json.dumps(server.requests[-1].messages[:-1])


@every
@pytest.mark.parametrize("words", ["too-long", "refuse"])
async def test_what_cannot_be_answered_is_not_told_again(
    session: BareSession, server: ModelServer, model: str, words: str
) -> None:
    async with model_agent(session, server, model) as agent:
        await agent.ask(words)
        await agent.ask("say fine")
    assert words not in json.dumps(server.requests[-1].messages)


@every
async def test_the_words_of_the_gateway_are_shown(session: BareSession, server: ModelServer, model: str) -> None:
    sentence = "the agent 'assistant' has used up its budget of 5.00 dollars for today"
    server.next(Answer(fault=Fault.GATEWAY, status=402, words=sentence))
    async with model_agent(session, server, model) as agent:
        outcome = await agent.ask("hello")
    assert (outcome.turn["failure_reason"], outcome.error) == ("rate_limited", sentence)


@every
async def test_no_word_of_a_service_and_no_key_gets_into_a_sentence(
    session: BareSession, server: ModelServer, model: str
) -> None:
    async with model_agent(session, server, model) as agent:
        errors = [(await agent.ask(words)).error or "" for words in ("error 500", "error 400", "error 418", "bad-key")]
    assert not [error for error in errors if "secret" in error or "sk-" in error or "0123456789" in error]


@every
async def test_a_title_and_a_summary_are_made_without_tools_and_leave_no_trace(
    session: BareSession, server: ModelServer, model: str
) -> None:
    async with model_agent(session, server, model, set_up=Adder().set_up) as agent:
        await agent.ask("say Paris in May is lovely")
        server.next(Answer(text='"Paris in May."\n'), Answer(text="They like Paris."))
        titles = [await agent.ask("", kind="control", content=encode({"do": do})) for do in ("title", "summarize")]
        assert [outcome.replies for outcome in titles] == [["Paris in May"], ["They like Paris."]]
        assert len(agent.steps()) == 2
    title, summary = server.requests[1:]
    assert "tools" not in title.body
    assert all("Paris in May is lovely" in json.dumps(request.body) for request in (title, summary))
    assert [outcome.turn["output_tokens"] for outcome in titles] == [title.used.output, summary.used.output]


async def test_an_unset_or_unknown_model_is_said_plainly(session: BareSession, server: ModelServer) -> None:
    for model, error in {
        "": "no model is set for this agent: dumbwaiter agent-group set AGENT --model anthropic:claude-sonnet-5-5",
        "claude": "'claude' is not a model; write anthropic:NAME, openai:NAME, google:NAME, ollama:NAME",
        "openai:x@groq": "this agent has no gateway, so there is no service 'groq'; write its URL instead",
    }.items():
        async with model_agent(session, server, model) as agent:
            outcome = await agent.ask("hello")
        assert (outcome.turn["failure_reason"], outcome.error) == ("bad_input", error)


@pytest.mark.parametrize("model", ["ollama:qwen3", "openai:some/model:free@URL/v1", "anthropic:fake@URL"])
async def test_other_services_that_speak_these_formats_can_be_used(
    session: BareSession, server: ModelServer, model: str
) -> None:
    async with model_agent(session, server, model.replace("URL", server.url)) as agent:
        outcome = await agent.ask("think hm\nsay hello")
    assert outcome.replies == ["hello"]
    assert outcome.turn["output_tokens"] == server.used.output
    assert server.requests[0].key == "none"


@dataclass
class Talking:
    """A `TurnOutput` with news: somebody says something once, after the first round of tools."""

    news: list[MessageIn]
    steps: list[Step] = field(default_factory=list)

    async def send(self, reply: Reply) -> str:
        raise AssertionError("nothing is sent in mid-turn")

    def append_steps(self, steps: Sequence[Step]) -> None:
        self.steps += steps

    def set_tool(self, name: str | None, seconds: float | None = None) -> None:
        raise AssertionError("the toolbox does that")

    async def take(self) -> Sequence[MessageIn]:
        news, self.news = self.news, []
        return news


@every
async def test_what_is_said_in_mid_turn_reaches_the_model_between_tool_calls(
    session: BareSession, server: ModelServer, model: str
) -> None:
    def message(text: str) -> MessageIn:
        values = {name: None for name in MessageIn.__match_args__} | {"content": encode({"text": text})}
        return MessageIn(**values | {"id": text, "seq": 1, "trigger": 1, "kind": "chat", "tries": 0})

    talking = Talking([message("and be quick")])
    request = TurnRequest(
        messages=(message('call add {"a": 1, "b": 1}'),),
        context=SessionContext(model=MODELS[model], provider="model"),
        destinations=(),
        workspace=session.workspace,
        session=session.layout,
    )
    provider = ModelProvider(environment(server), set_up=Adder().set_up)
    result = await provider.run(request, talking)
    await provider.aclose()
    assert "and be quick" in json.dumps(server.requests[1].messages)
    steps = [*talking.steps, *result.steps]
    assert [step.role for step in steps] == ["user", "assistant", "tool", "user", "assistant"]


def _object(arguments: object) -> Any:
    """The arguments of a call: as text, or as Google's SDK has them."""
    return json.loads(arguments) if isinstance(arguments, str) else arguments


def _wire(request: Request) -> str:
    """The conversation as text; of the two alphabets that base64 has, Google's SDK writes the other one."""
    return json.dumps(request.messages).translate(str.maketrans("-_", "+/"))


def _system(body: dict[str, Any]) -> list[str]:
    if "system" in body:
        return [block["text"] for block in body["system"]] if isinstance(body["system"], list) else [body["system"]]
    if "systemInstruction" in body:
        return [part["text"] for part in body["systemInstruction"]["parts"]]
    return [message["content"] for message in body["messages"] if message["role"] in ("system", "developer")]


def _png() -> bytes:
    """One white pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\xff\xff")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


PNG = _png()
