"""Traces for OpenTelemetry: the way of a message as spans, and a collector that is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from host.operations.doctor import check_telemetry
from host.settings import Settings
from host.telemetry.tracing import tracing
from host.traceparent import of_message
from tests.http_api.programs import Api, open_api
from tests.platforms.model_server import model_server
from tests.platforms.otlp_collector import OtlpCollector, Told, otlp_collector
from tests.providers.subjects import MODELS
from tests.support.host import AGENT, Host, rows, running

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLERS_SPAN = "00f067aa0ba902b7"
SECRET_WORDS = "the-word-that-no-trace-has"


@asynccontextmanager
async def traced(data: Path, collector: OtlpCollector, **options: Any) -> AsyncIterator[Host]:
    """A host whose traces go to the collector."""
    async with running(data, telemetry={"endpoint": collector.url}, **options) as host, tracing(host.services):
        yield host


def below(spans: list[Told], parent: Told) -> set[str]:
    """The names of the spans right below one."""
    return {span.name.split()[0] for span in spans if span.parent_id == parent.span_id}


async def test_the_way_of_a_message_is_one_trace_without_a_word_of_it(tmp_path: Path) -> None:
    async with otlp_collector() as collector, traced(tmp_path, collector) as host:
        assert SECRET_WORDS in await host.ask(f"use 7\nreply 1 {SECRET_WORDS}")
        await collector.named("deliver")
        (message,) = await collector.named("message")
        (turn,) = await collector.named("invoke_agent")
        (write,) = await collector.named("write")
        (deliver,) = await collector.named("deliver")
        ids = await host.central("SELECT message_id, session_id, turn_id FROM ingest")
        row = rows((await host.session()).inbound, "SELECT content FROM messages_in")
    assert message.parent_id == ""
    assert below(collector.spans, message) == {"write", "invoke_agent", "deliver"}
    assert {span.trace_id for span in collector.spans} == {message.trace_id}
    assert {span.service for span in collector.spans} == {"dumbwaiter"}
    assert message.began == write.began <= write.ended <= message.ended
    assert message.began <= turn.began <= turn.ended <= message.ended
    assert deliver.began <= deliver.ended
    assert message.attributes["dumbwaiter.message.id"] == ids[0]["message_id"]
    assert message.attributes["dumbwaiter.outcome"] == "completed"
    assert turn.name == f"invoke_agent {AGENT}"
    assert turn.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert turn.attributes["gen_ai.conversation.id"] == ids[0]["session_id"]
    assert turn.attributes["gen_ai.usage.output_tokens"] == 7
    assert turn.attributes["dumbwaiter.turn.id"] == ids[0]["turn_id"]
    assert not any(span.is_error for span in collector.spans)
    place = of_message(ids[0]["message_id"], None)
    assert (message.trace_id, message.span_id) == (f"{place.trace_id:032x}", f"{place.span_id:016x}")
    assert json.loads(row[0]["content"])["traceparent"] == place.header
    assert SECRET_WORDS.encode() not in collector.bodies


async def test_turns_that_die_are_spans_of_their_message_and_say_how(tmp_path: Path) -> None:
    async with otlp_collector() as collector, traced(tmp_path, collector, max_retries=1) as host:
        receipt = await host.say("crash")
        assert await host.outcome(receipt.accepted[0].message_id) == "failed"
        (message,) = await collector.named("message")
        turns = await collector.named("invoke_agent", 2)
        await collector.named("deliver")
    assert message.is_error
    assert message.attributes["error.type"] == "agent_died"
    assert {turn.parent_id for turn in turns} == {message.span_id}
    assert all(turn.is_error for turn in turns)
    assert sorted(turn.attributes["dumbwaiter.attempt"] for turn in turns) == [1, 2]


async def test_a_turn_over_several_messages_belongs_to_the_oldest_and_the_others_point_to_it(tmp_path: Path) -> None:
    async with otlp_collector() as collector, traced(tmp_path, collector) as host:
        await host.say("think 1")
        await host.say("one")
        await host.say("two")
        messages = await collector.named("message", 3)
        turns = {turn.span_id: turn for turn in await collector.named("invoke_agent")}
        await collector.named("deliver")
    followed = [message for message in messages if message.links]
    leading = [message for message in messages if not message.links]
    assert {turn.parent_id for turn in turns.values()} == {message.span_id for message in leading}
    assert {link for message in followed for link in message.links} <= {
        (turn.trace_id, turn.span_id) for turn in turns.values()
    }
    assert len(followed) + len(turns) == 3


@pytest.mark.full
async def test_a_model_call_is_a_span_of_its_turn_and_its_service_hears_where_it_stands(tmp_path: Path) -> None:
    async with otlp_collector() as collector, model_server(key="sk-of-the-host") as server:
        upstreams = {"openai": {"url": f"{server.url}/v1", "key": "sk-of-the-host"}}
        async with traced(tmp_path, collector, provider="model", upstreams=upstreams) as host:
            await host.do("agent_group.set", name=AGENT, model=MODELS["openai"])
            await host.ask(f"hello {SECRET_WORDS}")
            (turn,) = await collector.named("invoke_agent")
            (call,) = await collector.named("chat")
            await collector.named("deliver")
    assert (call.trace_id, call.parent_id) == (turn.trace_id, turn.span_id)
    assert turn.began <= call.ended
    assert call.attributes["gen_ai.provider.name"] == "openai"
    assert call.attributes["http.response.status_code"] == 200
    assert call.attributes["gen_ai.usage.output_tokens"] == server.used.output
    assert server.requests[0].headers["traceparent"] == f"00-{call.trace_id}-{call.span_id}-01"
    for word in (SECRET_WORDS, "sk-of-the-host"):
        assert word.encode() not in collector.bodies


async def test_the_trace_of_a_program_that_calls_goes_on_through_the_agent(tmp_path: Path) -> None:
    async with (
        otlp_collector() as collector,
        open_api(tmp_path / "data", telemetry={"endpoint": collector.url}) as api,
        tracing(api.host.services),
        api.program() as program,
    ):
        run = await called(program, api, f"00-{CALLER}-{CALLERS_SPAN}-01", 'call bash {"command": "echo $TRACEPARENT"}')
        silent = await called(program, api, f"00-{CALLER}-{CALLERS_SPAN}-00", "kept out")
        await called(program, api, "no place in a trace", "hello")
        messages = await collector.named("message", 2)
        place = of_message(run["id"], f"00-{CALLER}-{CALLERS_SPAN}-01")
        assert place.header in run["text"]
    (message,) = [each for each in messages if each.trace_id == CALLER]
    assert message.parent_id == CALLERS_SPAN
    assert message.attributes["dumbwaiter.message.id"] == run["id"]
    assert silent["id"] not in {each.attributes.get("dumbwaiter.message.id") for each in collector.spans}


async def called(program: Any, api: Api, traceparent: str, text: str) -> dict[str, Any]:
    """A run that was started with that header, once it is answered."""
    body = {"agent_group": AGENT, "text": text}
    status, run, _ = await program.ask("POST", "/api/runs", body, traceparent=traceparent)
    assert status == 202, run
    assert await api.host.outcome(run["id"]) == "completed"
    shown: dict[str, Any] = (await program.get(f"/api/runs/{run['id']}"))[1]
    return shown


async def test_messages_go_on_while_the_collector_is_away_and_are_told_when_it_is_back(tmp_path: Path) -> None:
    async with otlp_collector() as first:
        port = int(first.url.rpartition(":")[2])
        collector = first
    async with traced(tmp_path, collector) as host:
        assert await host.ask("hello") == "scripted: hello"
        async with otlp_collector(port) as back:
            back.answers = [503, 429]
            assert await host.ask("again") == "scripted: again"
            messages = await back.named("message", 2)
            await back.named("deliver", 2)
    assert len({message.trace_id for message in messages}) == 2


async def test_a_collector_that_hangs_holds_up_no_message_and_no_end_of_the_host(tmp_path: Path) -> None:
    async with otlp_collector() as collector:
        collector.hangs = True
        async with traced(tmp_path, collector) as host:
            assert await host.ask("hello") == "scripted: hello"
            assert await host.ask("again") == "scripted: again"
        assert collector.spans == []


async def test_doctor_says_whether_the_collector_takes_traces(tmp_path: Path) -> None:
    def checked(**setting: str) -> list[Any]:
        return check_telemetry(Settings(data=tmp_path, telemetry=setting))

    assert checked() == []
    async with otlp_collector() as collector:
        (found,) = await asyncio.to_thread(checked, endpoint=collector.url)
        assert (found.name, found.ok) == ("telemetry", True)
        assert (collector.posts, collector.spans) == (1, [])
    (found,) = await asyncio.to_thread(checked, endpoint=collector.url)
    assert found.ok is None
    assert "does not take traces" in found.what
    assert "[telemetry]" in found.hint


async def test_a_host_without_an_endpoint_makes_no_traces(tmp_path: Path) -> None:
    async with running(tmp_path) as host, tracing(host.services):
        await host.ask("hello")
        assert host.services.calls is None
        (row,) = rows((await host.session()).inbound, "SELECT content FROM messages_in")
        assert "traceparent" not in row["content"]
