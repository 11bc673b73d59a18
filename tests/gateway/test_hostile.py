"""What a hostile agent sends, and that it costs nobody but itself."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import web

from host.gateway.grant import Patience
from host.gateway.server import Transport
from shared_schema.layout import SessionLayout
from tests.gateway.world import World, connect, world
from tests.support.wait import until

POST = b"POST /upstream/openai/v1/responses HTTP/1.1\r\nHost: x\r\n"
IN_CHUNKS = POST + b"Transfer-Encoding: chunked\r\n"

MALFORMED = {
    "both framings": IN_CHUNKS + b"Content-Length: 4\r\n\r\n",
    "two lengths": POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n",
    "negative length": POST + b"Content-Length: -4\r\n\r\n",
    "another encoding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "carriage return in a header": b"GET /upstream/openai/x HTTP/1.1\r\nHost: x\r\nX: a\rY: b\r\n\r\n",
    "line feed in a header": b"GET /upstream/openai/x HTTP/1.1\r\nHost: x\r\nX: a\nY: b\r\n\r\n",
    "folded header": b"GET /upstream/openai/x HTTP/1.1\r\nHost: x\r\n X: a\r\n\r\n",
    "spaced header": b"GET /upstream/openai/x HTTP/1.1\r\nHost : x\r\n\r\n",
    "two hosts": b"GET /upstream/openai/x HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "no host": b"GET /upstream/openai/x HTTP/1.1\r\n\r\n",
    "null in a header": b"GET /upstream/openai/x HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n",
    "not utf-8": b"GET /upstream/openai/x HTTP/1.1\r\nHost: x\r\nX: \xff\r\n\r\n",
    "user in the URL": b"GET http://user:secret@example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "user in CONNECT": b"CONNECT user@example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "CONNECT without port": b"CONNECT example.com HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "CONNECT to a path": b"CONNECT /etc/passwd HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "another scheme": b"GET ftp://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "https in the clear": b"GET https://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "another path": b"GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "no upstream at its own address": b"GET http://127.0.0.1:4711/upstream/NO HTTP/1.1\r\nHost: x\r\n\r\n",
    "another version": b"GET /upstream/openai/x HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "nothing": b"\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_malformed_is_refused_and_nobody_is_asked(here: World, name: str) -> None:
    answer = await here.raw(MALFORMED[name])

    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"secret" not in answer
    assert here.service.seen == []
    assert (await here.message())["status"] == 200


async def test_a_second_request_on_a_connection_is_never_read(here: World) -> None:
    one = POST + b"Content-Length: 4\r\n\r\nbody"
    chunked = IN_CHUNKS + b"\r\n4\r\nbody\r\n0\r\n\r\n"
    for request in (one, chunked):
        answer = await here.raw(request * 3)
        assert answer.count(b"HTTP/1.1 200") == 1
    assert [seen.body for seen in here.service.seen] == [b"body"] * 2


async def test_http_1_0_gets_an_answer_that_ends_with_the_connection(here: World) -> None:
    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"hello")
        return response

    here.service.respond = respond
    answer = await here.raw(b"GET /upstream/openai/v1/models HTTP/1.0\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == b"hello"


async def test_a_body_that_is_malformed_ends_the_call(here: World) -> None:
    answer = await here.raw(IN_CHUNKS + b"\r\n4\r\nbody\r\nzz\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_a_head_that_is_too_long_or_never_ends_is_refused(tmp_path: Path, transport: Transport) -> None:
    async with world(tmp_path, transport) as here:
        long = b"GET /upstream/openai/x HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000
        assert (await here.raw(long)).startswith(b"HTTP/1.1 431 ")
        assert (await here.raw(long + b"\r\n\r\n")).startswith(b"HTTP/1.1 431 ")
        many = b"GET /upstream/openai/x HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 5000 + b"\r\n"
        assert (await here.raw(many)).startswith(b"HTTP/1.1 400 ")
    async with world(tmp_path, transport, Patience(head=2.0, linger=0.1)) as here:
        assert (await here.raw(b"GET /upstream/openai/x HTTP/1.1\r\nHo")).startswith(b"HTTP/1.1 408 ")
        assert (await here.message())["status"] == 200


async def is_refused(reader: asyncio.StreamReader) -> bool:
    """Whether a connection is ended with 503. Over TCP a token that comes after that resets it, and the 503 is lost."""
    try:
        return (await reader.read()).startswith(b"HTTP/1.1 503 ")
    except ConnectionResetError:
        return True


async def test_thousands_of_connections_leave_other_sessions_theirs(tmp_path: Path, transport: Transport) -> None:
    async with world(tmp_path, transport, descriptors=160) as here:
        other = SessionLayout(tmp_path / "other")
        other.folder.mkdir()
        await here.gateway.open("other", other)
        taken, refused = [], 0
        for _ in range(300):
            reader, writer = await here.connect()
            taken.append(writer)
            if len(taken) > 20:
                refused += await is_refused(reader)
        assert refused == 280
        assert "too many connections" in here.refused[0][2]
        assert len(here.refused) == 1

        if transport is Transport.UNIX:
            reader, writer = await asyncio.open_unix_connection(str(other.gateway))
            writer.write(b"GET /upstream/openai/x HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 403 ")  # heard: it is no session of this world
            writer.close()
        for writer in taken:
            writer.close()
        await until(lambda: not here.gateway._sessions[here.session_id].wires, "its connections are gone")
        assert (await here.message())["status"] == 200


async def test_a_burst_of_connections_takes_no_more_files_than_the_share(tmp_path: Path, transport: Transport) -> None:
    files, burst = 256, 600
    host = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.gateway.small_host", str(tmp_path), transport, str(files),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert host.stdin is not None
    assert host.stdout is not None
    assert await host.stdout.readline() == b"ready\n"
    host.send_signal(signal.SIGSTOP)  # so that all of them are there at once
    connections = [await connect(SessionLayout(tmp_path), transport, with_token=False) for _ in range(burst)]
    host.send_signal(signal.SIGCONT)

    refused = 0
    for reader, _ in connections[files // 4 :]:
        refused += (await reader.read()).startswith(b"HTTP/1.1 503 ")
    host.stdin.close()
    seen = json.loads(await host.stdout.readline())
    await host.wait()
    for _, writer in connections:
        writer.close()

    assert refused == burst - files // 4
    assert seen["failures"] == 0
    assert seen["highest"] < files // 4 + 32  # its own, and the few that are being refused


async def test_two_hundred_calls_at_the_same_moment_are_all_answered(tmp_path: Path, transport: Transport) -> None:
    async with world(tmp_path, transport, descriptors=4096) as here:
        answers = await asyncio.gather(*(here.message() for _ in range(200)))
        assert {answer["status"] for answer in answers} == {200}
        assert {len(here.used), len(here.service.seen)} == {200}


async def test_a_client_that_never_reads_costs_its_own_connection(tmp_path: Path, transport: Transport) -> None:
    ended: list[bool] = []

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        if body != b"flood":
            return web.json_response({"usage": {}})
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 100_000)
        finally:
            ended.append(True)

    async with world(tmp_path, transport, Patience(silent=0.5)) as here:
        here.service.respond = respond
        _, writer = await here.connect()
        writer.write(POST + b"Content-Length: 5\r\n\r\nflood")
        await until(lambda: here.service.seen, "the flood begins")

        assert all([(await here.message())["status"] == 200 for _ in range(20)])
        await until(lambda: ended, "it is given up")
        await until(lambda: here.used, "and counted")
        writer.close()


async def test_a_stalled_tunnel_is_ended_and_costs_nobody(tmp_path: Path, transport: Transport) -> None:
    stop = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stop.wait()
        writer.close()

    server = await asyncio.start_server(stall, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with world(tmp_path, transport, Patience(silent=0.4)) as here:
        here.allow(f"127.0.0.1:{port}")
        reader, writer = await here.connect()
        writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(b"x" * 20_000_000)  # more than anybody keeps
        assert (await here.message())["status"] == 200
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                await reader.read()
        stop.set()
        writer.close()
    server.close()


async def test_an_upstream_that_never_answers_holds_up_nobody_else(here: World) -> None:
    free = asyncio.Event()

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        if b"wait" in body:
            await free.wait()
        return web.json_response({"usage": {}})

    here.service.respond = respond
    waiting = [asyncio.create_task(here.message(wait=True)) for _ in range(30)]
    await until(lambda: len(here.service.seen) == 30, "they all wait")
    assert (await here.message())["status"] == 200
    free.set()
    assert {answer["status"] for answer in await asyncio.gather(*waiting)} == {200}


async def test_without_the_token_nothing_is_answered_on_the_port(tmp_path: Path) -> None:
    async with world(tmp_path, Transport.TCP) as here:
        told = json.loads(here.layout.gateway_port.read_text())
        for first in (b"", b"x" * 43 + b"\n", b"\n", told["token"][:-1].encode() + b"\n", b"x" * 500):
            reader, writer = await asyncio.open_connection(told["host"], told["port"])
            writer.write(first + b"GET /upstream/openai/x HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 403 ")
            writer.close()
        assert here.service.seen == []
