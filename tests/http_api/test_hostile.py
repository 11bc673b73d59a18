"""Hostile requests to the API: methods, headers, paths, bodies, origins, tokens, and ids of others get nothing."""

from __future__ import annotations

import asyncio
import io
import logging
from contextlib import ExitStack
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict

from host.central.tokens import Token
from host.http_api.access import Access
from host.http_api.bodies import SMALL, Bodies
from host.http_api.caller import MOST_OF_ONE, Callers
from host.http_api.errors import CallRefused
from tests.http_api.programs import Api, Program
from tests.support.host import AGENT

ASK = {"model": AGENT, "input": "x"}


async def test_a_hundred_hostile_calls_get_nothing(api: Api) -> None:
    async with api.program("owner") as owner:
        answer = (await owner.post("/v1/responses", {"model": AGENT, "input": "the secret word is xyzzy"}))[1]
    await api.host.settled()
    run, session = f"msg_{answer['id'].removeprefix('resp_')}", answer["session_id"]
    before = await api.host.central("SELECT (SELECT count(*) FROM audit) AS a, (SELECT count(*) FROM ingest) AS i")
    got: list[tuple[str, int, str]] = []

    async def note(name: str, program: Program, method: str, path: str, body: Any = None, **more: Any) -> None:
        try:
            status, told, _ = await program.ask(method, path, body, **more)
        except aiohttp.ClientConnectionError:  # the host hung up on what it cannot read
            status, told = 400, ""
        got.append((name, status, str(told)))

    looks = ["/v1/models", f"/v1/responses/{answer['id']}", f"/v1/responses/{answer['id']}?stream=true", "/api/runs",
             f"/api/runs/{run}", f"/api/runs/{run}/events", "/api/events", "/api/openapi.json", "/api/status",
             "/api/session/list", f"/api/session/transcript?session={session}", "/api/token/list"]  # fmt: skip
    changes = ["/v1/responses", "/v1/chat/completions", f"/v1/responses/{answer['id']}/cancel", "/api/runs",
               f"/api/runs/{run}/stop", "/api/token/add", "/api/session/delete", "/mcp"]  # fmt: skip
    wrong = (
        {}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "}, {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer dw_" + "A" * 43}, {"Authorization": "Bearer " + "A" * 9000},
        {"Authorization": "Bearer \u00e9\u00e8"}, {"Cookie": "dumbwaiter-1=x"}, {"X-Api-Key": "x"},
    )  # fmt: skip
    async with api.stranger() as stranger, api.program("eve") as eve:
        for path in looks:
            for headers in wrong[:5]:
                await note(f"{headers} {path}", stranger, "GET", path, **headers)
            await note(f"as another name {path}", eve, "GET", path, Host="evil.example")
            await note(f"from another site {path}", eve, "GET", path, Origin="https://evil.example")
        for path in changes:
            for headers in wrong:
                await note(f"{headers} {path}", stranger, "POST", path, ASK, **headers)
            await note(f"from another site {path}", eve, "POST", path, ASK, Origin="null")
        for path in (f"/v1/responses/{answer['id']}", f"/api/runs/{run}", f"/api/runs/{run}/events",
                     f"/api/session/show?session={session}", f"/api/session/transcript?session={session}",
                     f"/v1/files/file-{run[4:]}-{run[4:]}-0/content", f"/api/runs/{run}/files/{run}/0"):  # fmt: skip
            await note(f"of another {path}", eve, "GET", path)
        await note("of another", eve, "POST", f"/v1/responses/{answer['id']}/cancel", {})
        await note("of another", eve, "POST", "/v1/responses", {**ASK, "previous_response_id": answer["id"]})
        for path in ("/v1/../audit", "/v1/%2e%2e/audit", "/api/session/..%2f..%2fstatus", "/api//status",
                     "/v1/files/%00/content",
                     "/api/runs/%F0%9F", "/api/runs/" + "a" * 3000, "/api/runs/msg_%27%20or%201=1",
                     "/mcp/", "/v1", "/api",
                     "/v1/files/file-a-b-c/content", "/v1/files/file---/content",
                     "/v1/responses/resp_../stream"):  # fmt: skip
            await note(f"path {path[:40]}", eve, "GET", path)
        deep = b"[" * 100_000 + b"]" * 100_000
        for body in (b"{", b"[]", b"null", b'"x"', b"\xff\xfe", deep, b'{"model":' + b'{"a":' * 200 + b"1" + b"}" * 201,
                     b'{"model": NaN}', b'{"model": 1e999}', b'{"model": ' + b"9" * 5000 + b"}"):  # fmt: skip
            for path in ("/v1/responses", "/api/runs", "/mcp"):
                await note(f"body {body[:20]!r}", eve, "POST", path, data=body)
        for headers in (
            {"Content-Type": "text/plain"},
            {"Content-Encoding": "gzip"},
            {"Content-Type": "multipart/form-data"},
        ):
            await note(f"{headers}", eve, "POST", "/v1/responses", data=b"{}", **headers)
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "HEAD"):
            for path in ("/v1/responses", "/api/status", "/mcp"):
                await note(f"{method} {path}", eve, method, path)

    assert len(got) >= 100
    wrong_ones = [(name, status) for name, status, told in got if status < 400 or "xyzzy" in told or status >= 500]
    assert not wrong_ones, wrong_ones
    after = await api.host.central("SELECT (SELECT count(*) FROM audit) AS a, (SELECT count(*) FROM ingest) AS i")
    assert after[0]["i"] == before[0]["i"]
    assert after[0]["a"] - before[0]["a"] <= 1  # the token that was made for it


async def test_every_refusal_has_the_form_of_its_path(api: Api) -> None:
    async with api.program() as program:
        foreign = {"Origin": "http://x"}
        for path, headers in (("/v1/nothing", {}), ("/v1/models", {"Host": "evil.example"}), ("/v1/models", foreign)):
            status, told = await program.get(path, **headers)
            assert status >= 400
            assert told["error"]["message"], path
        for path, headers in (("/api/nothing", {}), ("/api/runs", {"Host": "evil.example"}), ("/mcp", {})):
            status, told = await program.get(path, **headers)
            assert status >= 400
            assert told["detail"], path


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_refused_before_it_is_kept(api: Api, chunked: bool) -> None:
    async with api.program() as program:
        size = 49 * 1024**2

        async def content() -> Any:
            for _ in range(size // SMALL):
                yield b" " * SMALL

        headers = {"Authorization": f"Bearer {program.token}", "Content-Type": "application/json"}
        data = content() if chunked else io.BytesIO(b" " * size)
        try:
            async with program.session.post(f"{api.address}/v1/responses", data=data, headers=headers) as answer:
                assert answer.status == 413
        except (ConnectionError, aiohttp.ClientConnectionError):
            pass  # the host hung up while it was still sent
        assert (await program.get("/v1/models"))[0] == 200


async def test_a_body_that_trickles_is_given_up(api: Api) -> None:
    class Request:
        """What a program sends that never goes on."""

        headers = CIMultiDict[str]()
        body_exists, content_type, content_length = True, "application/json", 100

        class content:
            @staticmethod
            async def readany() -> bytes:
                await asyncio.Event().wait()
                return b""

    with pytest.raises(CallRefused) as refused:
        await Bodies(chunk_seconds=0.01).json(Request())  # type: ignore[arg-type]
    assert refused.value.refusal.status == 408


async def test_more_calls_at_once_than_one_token_may_have_are_refused(api: Api) -> None:
    callers = Callers(api.host.services)
    one, other = (
        Token(name, name, "talk", None, None, None, None, "month", "2026-01-01T00:00:00.000Z", None, None)
        for name in ("one", "other")
    )
    with ExitStack() as under_way:
        for _ in range(MOST_OF_ONE):
            under_way.enter_context(callers.busy(one))
        with pytest.raises(CallRefused) as refused, callers.busy(one):
            pass
        assert (refused.value.refusal.status, refused.value.refusal.headers) == (429, {"Retry-After": "1"})
        with callers.busy(other):
            pass
    with callers.busy(one):
        pass  # who leaves makes room


async def test_no_token_stands_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with api.program(rights="admin") as program, api.stranger("dw_canary_of_a_stranger") as stranger:
        await program.post("/v1/responses", {"model": AGENT, "input": "fail it broke"})
        await program.get("/api/nothing")
        await program.post("/api/token/add", {"name": "more"}, **{"Idempotency-Key": "k"})
        await stranger.get("/v1/models")
        token = str(program.token)

    kept = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert "a call was refused" in kept
    assert token not in kept
    assert "canary" not in kept


def test_only_the_api_is_the_apis() -> None:
    assert all(Access.owns(path) for path in ("/v1/models", "/api/runs", "/mcp", "/api"))
    assert not any(Access.owns(path) for path in ("/", "/v1x", "/apis", "/mcp2", "/chat/api/", "/audit"))
