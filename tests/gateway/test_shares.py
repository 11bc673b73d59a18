"""Budgets against calls at once, headers that pass by a list, a key that a service repeats: through a real gateway."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web

from host.gateway.upstreams import Upstream
from host.gateway.usage import CallUsage
from tests.gateway.test_dollars import liar
from tests.gateway.world import CANARY, World
from tests.support.wait import until

RESPONSES = "/upstream/openai/v1/responses"


async def test_calls_at_once_spend_no_more_than_the_budget_and_one_call(tmp_path: Path) -> None:
    async with liar(tmp_path, budget_tokens=25_000) as agent:  # each call takes 10,000 and a few
        statuses = [status for status, _ in await asyncio.gather(*(agent.ask() for _ in range(30)))]
        used = (await agent.budget())["tokens"]
        assert used <= 25_000 + 11_000
        assert statuses.count(200) == len(agent.server.requests) == 3
        assert set(statuses) == {200, 402}


async def test_a_reservation_is_given_back_on_every_ending(here: World) -> None:
    under_way: list[CallUsage] = []

    async def reserve(upstream: Upstream, expected: CallUsage):  # type: ignore[no-untyped-def]
        under_way.append(expected)
        return lambda: under_way.remove(expected)

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        if b"error" in body:
            return web.Response(status=500)
        if b"wait" in body:
            await asyncio.sleep(20)
        return web.json_response({"usage": {"prompt_tokens": 3}})

    assert here.grant is not None
    here.grant = replace(here.grant, reserve=reserve, has_budget=True)
    here.service.respond = respond
    for body in ({"max_tokens": 7}, {"error": 1}):
        async with here.call(RESPONSES, json=body):
            pass
        await until(lambda: not under_way, "its reservation is given back")
    _, writer = await here.connect()
    writer.write(
        b"POST /upstream/openai/v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n" + b'{"wait":1}'
    )
    await until(lambda: len(here.service.seen) == 3, "it is under way")
    assert [expected.output_tokens for expected in under_way] == [128_000]
    writer.close()
    await until(lambda: not under_way, "its reservation is given back")
    assert len(here.used) == 2  # the first, and the one that left


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (gzip.compress(b'{"model":"x"}', mtime=0), {"Content-Encoding": "gzip"}, 415),
        ('{"model":"x"}'.encode("utf-16"), {}, 403),
        (b"[1]", {}, 403),
        (b'{"model":"x"} ', {}, 200),
    ],
    ids=["compressed", "another charset", "no object", "spaces behind it"],
)
async def test_with_a_budget_a_body_that_cannot_be_read_is_refused(
    here: World, body: bytes, headers: dict[str, str], status: int
) -> None:
    assert here.grant is not None
    here.grant = replace(here.grant, has_budget=True)
    async with here.call(RESPONSES, data=body, headers=headers) as response:
        assert response.status == status
    assert len(here.used) == (status == 200)


async def test_headers_pass_by_a_list_in_both_directions(here: World) -> None:
    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        headers = {
            "Set-Cookie": "a=b",
            "anthropic-organization-id": "org-of-the-host",
            "Location": "http://elsewhere",
            "X-Unknown": "1",
            "anthropic-ratelimit-requests-remaining": "7",
            "request-id": "req_1",
        }
        return web.json_response({}, headers=headers)

    here.service.respond = respond
    sent = {
        "OpenAI-Organization": "org-of-somebody",
        "X-Goog-User-Project": "project",
        "X-HTTP-Method-Override": "DELETE",
        "X-Forwarded-For": "10.0.0.1",
        "Authorization": "Bearer mine",
        "X-Something": "1",
        "OpenAI-Beta": "assistants=v2",
        "x-stainless-lang": "python",
        "User-Agent": "sdk/1",
    }
    async with here.call(RESPONSES, json={}, headers=sent) as response:
        answered = {name.lower() for name in response.headers}
    (seen,) = here.service.seen
    passed = {"openai-beta", "x-stainless-lang", "user-agent", "content-type", "accept", "accept-encoding"}
    assert set(seen.headers) <= passed | {"host", "content-length", "authorization"}
    assert {"openai-beta", "x-stainless-lang"} <= set(seen.headers)
    assert seen.headers["authorization"] == f"Bearer {CANARY}"
    assert {"anthropic-ratelimit-requests-remaining", "request-id"} <= answered
    assert answered <= {
        "anthropic-ratelimit-requests-remaining", "request-id", "content-type", "date", "connection", "content-length",
    }  # fmt: skip


WRITINGS = {
    "plain": CANARY.encode(),
    "base64": base64.b64encode(f"Bearer {CANARY}".encode()),
    "percent": "".join(f"%{ord(character):02X}" for character in CANARY).encode(),
    "json": "".join(f"\\u{ord(character):04x}" for character in CANARY).encode(),
    "quoted": quote(CANARY, safe="").encode(),
    "hexadecimal": CANARY.encode().hex().encode(),
}


@pytest.mark.parametrize("status", [200, 401])
@pytest.mark.parametrize("writing", WRITINGS)
async def test_a_key_that_a_service_repeats_is_in_no_answer_however_it_is_written(
    here: World, writing: str, status: int
) -> None:
    written = WRITINGS[writing]

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        for at in range(0, len(written), 5):  # in pieces
            await response.write((b"before " if at == 0 else b"") + written[at : at + 5])
            await asyncio.sleep(0.005)
        await response.write(b" after")
        return response

    here.service.respond = respond
    async with here.call(RESPONSES, json={}) as response:
        answer = await response.read()
    assert answer.startswith(b"before ")
    assert answer.endswith(b" after")
    assert written[8:] not in answer


@pytest.mark.parametrize("status", [200, 401])
async def test_an_answer_that_is_compressed_unasked_does_not_pass(here: World, status: int) -> None:
    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        compressed = gzip.compress(json.dumps({"key": CANARY}).encode())
        return web.Response(body=compressed, status=status, headers={"Content-Encoding": "gzip"})

    here.service.respond = respond
    async with here.call(RESPONSES, json={"max_tokens": 50}) as response:
        assert response.status == (502 if status == 200 else 401)
        assert CANARY.encode() not in await response.read()
    if status == 200:
        assert here.used[0][2].output_tokens == 50
