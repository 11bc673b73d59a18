"""Model calls: the key, the streams, what is counted, what is refused."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import SecretStr

from host.gateway.call_span import CallSpan
from host.gateway.grant import Patience
from host.gateway.limits import CallLimits
from host.gateway.server import Transport
from host.gateway.upstreams import Upstream, UpstreamKind
from host.gateway.usage import CallUsage
from shared_schema.clock import ManualClock
from tests.gateway.service import ANTHROPIC_EVENTS, sse
from tests.gateway.world import CANARY, World, world
from tests.support.wait import until


class Spans:
    """What a trace is told of model calls."""

    def __init__(self) -> None:
        self.over: list[CallSpan] = []

    async def begin(self, session_id: str, upstream: str, kind: str) -> CallSpan:
        return CallSpan(f"00-{1:032x}-{2:016x}-01", 3, session_id, upstream, kind)

    def end(self, span: CallSpan) -> None:
        self.over.append(span)


async def too_many(request: web.Request, body: bytes) -> web.StreamResponse:
    return web.json_response({"error": "later"}, status=429)


async def used_up() -> str | None:
    return "It is used up."


async def test_a_traced_call_tells_its_service_where_it_stands_and_the_trace_how_it_ended(tmp_path: Path) -> None:
    spans = Spans()
    async with world(tmp_path, Transport.UNIX, spans=spans) as here:
        mine = {"traceparent": f"00-{9:032x}-{9:016x}-01", "tracestate": "mine=1"}
        path = "/upstream/anthropic/v1/messages"
        async with here.call(path, headers=mine, json={"model": "claude-test"}) as response:
            assert response.status == 200
        here.service.respond = too_many
        async with here.call(path, json={"model": "claude-test"}) as response:
            assert response.status == 429
        here.grant = replace(here.grant, exhausted=used_up)
        async with here.call(path, json={"model": "claude-test"}) as response:
            assert response.status == 402
        await until(lambda: len(spans.over) == 3, "three calls are over")
    seen = here.service.seen[0].headers
    assert seen["traceparent"] == f"00-{1:032x}-{2:016x}-01"
    assert "tracestate" not in seen
    assert [(span.status, span.error) for span in spans.over] == [(200, None), (429, None), (None, "budget")]
    assert spans.over[0].usage is not None


@pytest.mark.parametrize(
    ("name", "header", "value"),
    [
        ("anthropic", "x-api-key", CANARY),
        ("openai", "authorization", f"Bearer {CANARY}"),
        ("google", "x-goog-api-key", CANARY),
        ("ollama", "authorization", f"Bearer {CANARY}"),
    ],
)
async def test_the_key_replaces_whatever_the_agent_sends(here: World, name: str, header: str, value: str) -> None:
    sent = {"x-api-key": "mine", "Authorization": "Bearer mine", "x-goog-api-key": "mine", "Cookie": "mine"}

    async with here.call(f"/upstream/{name}/v1/messages?key=mine&alt=sse", headers=sent, json={}) as response:
        assert response.status == 200

    (seen,) = here.service.seen
    assert seen.headers[header] == value
    assert "mine" not in str(seen.headers)
    assert seen.headers["host"] == f"127.0.0.1:{here.service.port}"
    assert seen.target == "/v1/messages?alt=sse"


async def test_a_body_arrives_whole_with_its_length_or_in_chunks(here: World) -> None:
    body = bytes(range(256)) * 2000

    async def pieces() -> object:
        for at in range(0, len(body), 1000):
            yield body[at : at + 1000]

    for data in (body, pieces()):
        async with here.call("/upstream/openai/v1/responses", data=data) as response:
            assert response.status == 200

    assert [seen.body for seen in here.service.seen] == [body, body]
    assert here.service.seen[0].headers["content-length"] == str(len(body))
    assert here.service.seen[1].headers["transfer-encoding"] == "chunked"


async def test_every_event_of_a_stream_arrives_before_the_next_is_sent(here: World) -> None:
    go_on = asyncio.Queue[None]()

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in ANTHROPIC_EVENTS:
            await response.write(sse(event))
            await go_on.get()
        return response

    here.service.respond = respond
    async with here.call("/upstream/anthropic/v1/messages", json={}) as response:
        for event in ANTHROPIC_EVENTS:
            async with asyncio.timeout(5):
                assert await response.content.readuntil(b"\n\n") == sse(event)
            go_on.put_nowait(None)
        assert await response.read() == b""

    await until(lambda: here.used, "the call is counted")
    assert here.used == [(here.session_id, "anthropic", CallUsage("claude-test", 7, 5))]


async def test_usage_of_a_plain_answer_is_counted_once(here: World) -> None:
    answer = await here.message()

    assert answer["content"][0]["text"] == "hello"
    await until(lambda: here.used, "the call is counted")
    assert here.used == [(here.session_id, "anthropic", CallUsage("claude-test", 7, 5, 3, 2))]


async def test_a_stream_that_the_agent_breaks_off_is_ended_upstream_and_counted(here: World) -> None:
    left = asyncio.Event()

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(sse(ANTHROPIC_EVENTS[0], *[ANTHROPIC_EVENTS[1]] * 20))
        await until(lambda: request.transport is None, "the gateway has hung up")
        left.set()
        return response

    here.service.respond = respond
    async with here.call("/upstream/anthropic/v1/messages", json={}) as response:
        await response.content.readuntil(b"\n\n")

    async with asyncio.timeout(2):
        await left.wait()
    await until(lambda: here.used, "the call is counted")
    assert here.used[0][2] == CallUsage("claude-test", 7, 21, estimated=True)


async def test_an_agent_that_leaves_before_the_answer_ends_the_call(here: World) -> None:
    left = asyncio.Event()

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        await until(lambda: request.transport is None, "the gateway has hung up")
        left.set()
        return web.Response()

    here.service.respond = respond
    _, writer = await here.connect()
    body = b'{"input": "hello", "model": "gpt-test"}!'
    writer.write(b"POST /upstream/openai/v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n" + body)
    await until(lambda: here.service.seen, "the call is under way")
    writer.close()

    async with asyncio.timeout(2):
        await left.wait()
    await until(lambda: here.used, "what it sent is counted")
    assert here.used[0][2] == CallUsage(input_tokens=10, estimated=True, requested_models=frozenset({"gpt-test"}))


async def test_a_request_that_names_more_models_than_any_call_could_mean_is_refused(here: World) -> None:
    models = [{"model": f"model-{number}"} for number in range(1000)]
    async with here.call("/upstream/openai/v1/responses", json=models) as response:
        assert response.status == 400
    async with here.call("/upstream/openai/responses/input_tokens", json=models) as response:
        assert response.status == 200
    assert here.used == []


async def test_connections_that_break_before_the_first_byte_are_tried_again_twice(here: World) -> None:
    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        if len(here.service.seen) < 3:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"body": body.decode()})

    here.service.respond = respond
    async with here.call("/upstream/openai/v1/chat/completions", data=b"hello") as response:
        assert await response.json() == {"body": "hello"}
    assert len(here.service.seen) == 3


async def test_an_upstream_that_is_not_there_is_a_sentence_in_the_vendors_form(here: World) -> None:
    assert here.grant is not None
    gone = {k: replace(u, url="http://127.0.0.1:9") for k, u in here.grant.upstreams.items()}
    here.grant = replace(here.grant, upstreams=gone)

    answer = await here.message()

    assert answer["status"] == 502
    assert answer["error"] == {
        "type": "api_error",
        "message": "The model service 'anthropic' cannot be reached.",
    }
    assert here.refused == []


async def test_an_answer_that_breaks_off_breaks_off_for_the_agent_too(here: World) -> None:
    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(sse(ANTHROPIC_EVENTS[0]))
        assert request.transport is not None
        request.transport.abort()
        return response

    here.service.respond = respond
    answer = await here.raw(b"POST /upstream/anthropic/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")

    assert b"message_start" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert len(here.service.seen) == 1


@pytest.mark.parametrize("kind", list(UpstreamKind))
async def test_a_budget_that_is_used_up_is_said_in_the_vendors_form(here: World, kind: UpstreamKind) -> None:
    sentence = "The budget of assistant is used up: 10 of 10 tokens."

    async def exhausted() -> str | None:
        return sentence

    assert here.grant is not None
    here.grant = replace(here.grant, exhausted=exhausted)
    async with here.call(f"/upstream/{kind}/v1/messages", json={}) as response:
        answer = await response.json()

    assert response.status == 402
    shapes = {
        UpstreamKind.ANTHROPIC: {"type": "error", "error": {"type": "billing_error", "message": sentence}},
        UpstreamKind.OPENAI: {
            "error": {
                "message": sentence,
                "type": "insufficient_quota",
                "param": None,
                "code": "insufficient_quota",
            }
        },
        UpstreamKind.GOOGLE: {"error": {"code": 402, "message": sentence, "status": "FAILED_PRECONDITION"}},
        UpstreamKind.OLLAMA: {"error": sentence},
    }
    assert answer == shapes[kind]
    assert here.service.seen == []
    assert here.refused == [(here.session_id, f"a call of the model service '{kind}'", sentence)]


async def test_limits_of_a_minute_hold_for_requests_and_tokens(tmp_path: Path, transport: Transport) -> None:
    clock = ManualClock()
    async with world(tmp_path, transport, clock=clock) as here:
        assert here.grant is not None
        here.grant = replace(here.grant, limits=CallLimits(requests_per_minute=2))
        assert [(await here.message())["status"] for _ in range(2)] == [200, 200]
        answer = await here.message()
        assert answer["status"] == 429
        assert answer["error"]["type"] == "rate_limit_error"
        assert 0 < int(answer["headers"]["retry-after"]) <= 61
        clock.advance(61)
        assert (await here.message())["status"] == 200

        here.grant = replace(here.grant, limits=CallLimits(tokens_per_minute=17))
        await until(lambda: len(here.used) == 3, "all calls are counted")
        assert (await here.message())["status"] == 429
        clock.advance(61)
        assert (await here.message())["status"] == 200


async def test_an_unknown_upstream_and_one_without_a_key_are_refused(here: World) -> None:
    assert here.grant is not None
    openai = Upstream("openai", "https://api.openai.com/v1", None, UpstreamKind.OPENAI)
    here.grant = replace(here.grant, upstreams={"openai": openai})

    async with here.call("/upstream/openai/models", "GET") as response:
        assert response.status == 401
        assert "dumbwaiter init --model openai" in (await response.json())["error"]["message"]
    assert (await here.message())["status"] == 404
    assert [what for _, what, _ in here.refused] == [
        "a call of the model service 'openai'",
        "a call of the model service 'anthropic'",
    ]


async def test_a_refusal_arrives_although_the_body_is_still_being_sent(here: World) -> None:
    head = b"POST /upstream/nobody/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n"
    for _ in range(3):
        assert (await here.raw(head + b"x" * 3_000_000)).startswith(b"HTTP/1.1 404 ")


async def test_a_change_of_the_grant_counts_for_the_next_request(here: World) -> None:
    assert (await here.message())["status"] == 200
    here.grant = None
    async with here.call("/upstream/anthropic/v1/messages", json={}) as response:
        assert response.status == 403


async def test_the_agent_does_not_choose_the_path_outside_the_upstreams_url(here: World) -> None:
    for path in ("/../admin", "/v1/..%2Fadmin", "/%2e%2e/admin", "/v1/./x", "/v1/.%2e"):
        answer = await here.raw(f"GET /upstream/openai{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 400 "), path
    assert here.service.seen == []


async def test_redirects_are_not_followed_with_the_key(here: World) -> None:
    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"{here.service.url}/elsewhere"})

    here.service.respond = respond
    async with here.call("/upstream/openai/v1/models", "GET", allow_redirects=False) as response:
        assert response.status == 307
    assert len(here.service.seen) == 1


async def test_an_agent_that_asks_first_is_told_to_send_its_body(here: World) -> None:
    reader, writer = await here.connect()
    writer.write(
        b"POST /upstream/openai/v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    )
    async with asyncio.timeout(5):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    assert here.service.seen[0].body == b"body"
    writer.close()


async def test_an_upstream_that_says_nothing_is_given_up(tmp_path: Path, transport: Transport) -> None:
    never = asyncio.Event()

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async with world(tmp_path, transport, Patience(silent=0.2)) as here:
        here.service.respond = respond
        answer = await here.message()
        assert answer["status"] == 504
        assert len(here.service.seen) == 1
        never.set()


async def test_no_key_is_in_anything_that_an_agent_or_a_log_gets(
    here: World, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("DEBUG")
    answers: list[str] = []

    async def echo(request: web.Request, body: bytes) -> web.StreamResponse:
        headers = dict(request.headers)
        return web.json_response({"wrong key": headers}, status=401, headers={"x-echo": str(list(headers.values()))})

    async def explode(session_id: str) -> str | None:
        raise ValueError(CANARY)

    here.service.respond = echo
    for name in UpstreamKind:
        async with here.call(f"/upstream/{name}/v1/messages", json={}) as response:
            answers += [await response.text(), str(response.headers)]
    here.service.respond = _abort
    async with here.call("/upstream/openai/v1/messages", json={}) as response:
        answers.append(await response.text())
    assert here.grant is not None
    kept = here.grant
    here.grant = replace(kept, exhausted=lambda: explode(""))
    async with here.call("/upstream/openai/v1/messages", json={}) as response:
        assert response.status == 500
        answers.append(await response.text())
    here.grant = replace(kept, upstreams={"openai": replace(kept.upstreams["openai"], key=SecretStr(f"{CANARY}\r\n"))})
    async with here.call("/upstream/openai/v1/messages", json={}) as response:
        answers.append(await response.text())
    answers += [repr(here.grant), repr(kept), str(kept), json.dumps(here.refused)]
    files = [path.read_bytes() for path in here.layout.folder.rglob("*") if path.is_file()]

    assert answers
    assert CANARY not in "\n".join(answers)
    assert "Bearer [key]" in answers[2]
    assert CANARY not in caplog.text
    assert CANARY not in repr([vars(record) for record in caplog.records])
    assert all(CANARY.encode() not in content for content in files)


async def _abort(request: web.Request, body: bytes) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
