"""What comes to the gateway: heads and bodies of requests, first lines on its port, answers of model services.

The gateway is the real one on a real socket, with a service on loopback behind it that answers with any bytes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

from hypothesis import strategies as st
from pydantic import SecretStr

from host.gateway.grant import Grant, Patience
from host.gateway.head import Call, Fetch, parse, passed_on, plain, wanted
from host.gateway.policy import parse_rule
from host.gateway.refusal import Refused
from host.gateway.server import Gateway, Transport
from host.gateway.upstreams import Upstream, UpstreamKind
from shared_schema.clock import SystemClock
from shared_schema.layout import SessionLayout
from tests.fuzz.ledger import OWNER
from tests.fuzz.requests import Complaints
from tests.fuzz.target import Drive, Target, of_bytes

KEY = b"sk-canary-0123456789abcdef"
SESSION = "ses_0123456789abcdef"
_PORT = b"PORT"  # stands for the number of the service's port
_SILENT_SECONDS, _LONG_SECONDS = 0.05, 8.0
_PATIENCE = Patience(linger=0.01, between_tries=0.001)
_STATUS_LINE = re.compile(rb"HTTP/1\.1 \d{3} [^\r\n]*")
_DOTS = re.compile(r"[/\\]\.{1,2}([/\\]|\Z)")
_OF_ONE_CONNECTION = {"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}

USAGE = b'"usage":{"prompt_tokens":10,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":6}}'
DOCUMENT = b'{"model":"gpt-test","choices":[],' + USAGE + b"}"
EVENTS = (
    b'event: x\r\ndata: {"model":"claude-test","usage":{"input_tokens":7,"output_tokens":1}}\r\n\r\ndata: [DONE]\n\n'
)


def healthy_requests() -> Sequence[bytes]:
    """What an agent may ask for: a model call, plain and in chunks, a page, and a tunnel."""
    call = b"POST /upstream/openai/v1/chat/completions?key=x HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    return [
        call + b"Authorization: Bearer none\r\nContent-Length: 2\r\n\r\n{}",
        call + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n4;x=y\r\nbody\r\n0\r\nX: y\r\n\r\n",
        b"GET http://127.0.0.1:PORT/a?b HTTP/1.1\r\nHost: h\r\nConnection: close, X-One\r\nX-One: 1\r\n\r\n",
        b"CONNECT 127.0.0.1:PORT HTTP/1.1\r\nHost: h\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET http://127.0.0.1:4711/upstream/openai/v1/models HTTP/1.0\r\n\r\n",
    ]


def healthy_answers() -> Sequence[bytes]:
    """What a model service says: whole, in chunks, as an error that repeats the key, as a redirect, and twice."""
    whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    events = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    error = b"HTTP/1.1 401 No: " + KEY + b"\r\nX-Seen: " + KEY + b"\r\nContent-Length: 26\r\n\r\n" + KEY
    return [
        whole % (len(DOCUMENT), DOCUMENT),
        events + b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENTS), EVENTS),
        error,
        b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:PORT/\r\nSet-Cookie: a=b\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + whole % (len(DOCUMENT), DOCUMENT),
    ]


class World:
    """A gateway with one session, and what its service was asked and answers."""

    def __init__(self, runner: asyncio.Runner, layout: SessionLayout, transport: Transport) -> None:
        self._runner = runner
        self._layout = layout
        self._transport = transport
        self.complaints = Complaints()
        self.port = 0
        self.heads: list[bytes] = []
        self.answer = healthy_answers()[0]

    def ask(self, data: bytes, *, silence: float = _LONG_SECONDS, after_token: bool = True) -> bytes:
        """What comes back for these bytes until the gateway ends the connection, and complains of nothing in its log.

        After a `silence` the client ends its direction: it has no more to say.
        """
        answer = self._runner.run(self._ask(data.replace(_PORT, b"%d" % self.port), silence, after_token))
        assert self.complaints.records == [], self.complaints.records[0]
        return answer

    def token(self) -> bytes:
        """What a connection to the port begins with."""
        return str(json.loads((self._layout.folder / "gateway.json").read_text())["token"]).encode()

    async def _ask(self, data: bytes, silence: float, after_token: bool) -> bytes:
        if self._transport is Transport.UNIX:
            reader, writer = await asyncio.open_unix_connection(str(self._layout.gateway))
        else:
            told = json.loads((self._layout.folder / "gateway.json").read_text())
            reader, writer = await asyncio.open_connection(told["host"], told["port"])
            writer.write(self.token() + b"\n" if after_token else b"")
        answer = b""
        try:
            writer.write(data)
            with suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(silence):
                        answer += (chunk := await reader.read(65536))
                    if not chunk:
                        return answer
            writer.write_eof()
            async with asyncio.timeout(_LONG_SECONDS):
                return answer + await reader.read()
        except ConnectionError:
            return answer
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The service: it hears a head, and answers."""
        with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, TimeoutError):
            async with asyncio.timeout(1):
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            await writer.drain()
        writer.close()


@contextmanager
def _world(folder: Path, transport: Transport) -> Iterator[World]:
    """A gateway until the block ends."""
    log = logging.getLogger("host.gateway")
    layout = SessionLayout(folder / SESSION)
    layout.folder.mkdir()
    with asyncio.Runner() as runner:
        world = World(runner, layout, transport)
        log.addHandler(world.complaints)
        server = runner.run(asyncio.start_server(world.serve, "127.0.0.1", 0))
        world.port = server.sockets[0].getsockname()[1]
        upstream = Upstream("openai", f"http://127.0.0.1:{world.port}", SecretStr(KEY.decode()), UpstreamKind.OPENAI)
        grant = Grant("agr_1", (parse_rule(f"127.0.0.1:{world.port}"),), {"openai": upstream})

        async def grant_of(session_id: str) -> Grant:
            return grant

        gateway = Gateway(
            grant_of,
            OWNER,
            SystemClock(),
            refused=lambda *told: None,
            used=lambda *told: None,
            transport=transport,
            patience=_PATIENCE,
        )
        runner.run(gateway.open(SESSION, layout))
        try:
            yield world
        finally:
            log.removeHandler(world.complaints)
            runner.run(gateway.aclose())
            server.close()


@contextmanager
def _head(folder: Path) -> Iterator[Drive]:
    """A head is refused, or asks for one thing; what is passed on of it is one request again."""

    async def read(data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        data, body = (data + b"\r\n\r\n", b"") if end < 0 else (data[: end + 4], data[end + 4 :])
        head = parse(data)
        if head.chunks is not None:
            assert _body(data, [body]) == _body(data, [body[at : at + 1] for at in range(len(body))])
        asked = wanted(head)
        assert not {name.lower() for name in passed_on(head.headers)} & _OF_ONE_CONNECTION
        if isinstance(asked, Call):
            assert not _DOTS.search(unquote(asked.path))
        if isinstance(asked, Fetch):
            said = plain(head, asked)
            again = parse(said)
            assert said.index(b"\r\n\r\n") == len(said) - 4
            assert (again.method, again.target, again.length) == (head.method, asked.target, head.length)

    with asyncio.Runner() as runner:
        yield lambda data: runner.run(read(data))


def _body(head: bytes, pieces: Sequence[bytes]) -> tuple[bytes, bool] | None:
    """What is in a body that comes in these pieces, and whether it came to its end; None when it is refused."""
    chunks = parse(head).chunks
    assert chunks is not None
    taken = b""
    try:
        for piece in pieces:
            if chunks.is_over:
                break
            taken += chunks.take(piece)
    except Refused:
        return None
    return taken, chunks.is_over


@contextmanager
def _request(folder: Path) -> Iterator[Drive]:
    """Whatever comes on a connection, the gateway answers, the service hears the key once or not, and it goes on."""
    with _world(folder, Transport.UNIX) as world:

        def drive(data: bytes) -> None:
            world.heads.clear()
            answer = world.ask(data, silence=_SILENT_SECONDS)
            assert KEY not in answer
            assert answer == b"" or answer.startswith(b"HTTP/1."), answer
            assert all(head.count(KEY) <= 1 for head in world.heads)
            assert len(world.heads) <= 1, "two requests were read on one connection"
            assert b" 200 " in world.ask(healthy_requests()[0])[:20]

        yield drive


@contextmanager
def _token(folder: Path) -> Iterator[Drive]:
    """Without the token in its first line nothing is asked of anybody."""
    with _world(folder, Transport.TCP) as world:
        token = world.token()

        def drive(data: bytes) -> None:
            world.heads.clear()
            first = data.replace(b"TOKEN", token).replace(b"TOKE-", token[:-1])
            answer = world.ask(first + healthy_requests()[0], silence=_SILENT_SECONDS, after_token=False)
            line, feed, _ = first.partition(b"\n")
            if line.strip() != token or not feed:
                assert answer == b"" or b" 403 " in answer[:20], answer
                assert world.heads == []
            assert b" 200 " in world.ask(healthy_requests()[0])[:20]

        yield drive


@contextmanager
def _answer(folder: Path) -> Iterator[Drive]:
    """What the agent gets has a proper head, and never the key in it, nor in an error."""
    with _world(folder, Transport.UNIX) as world:

        def drive(data: bytes) -> None:
            world.answer = data.replace(_PORT, b"%d" % world.port)
            head, _, body = world.ask(healthy_requests()[0]).partition(b"\r\n\r\n")
            world.answer = healthy_answers()[0]
            first, *lines = head.split(b"\r\n")
            assert _STATUS_LINE.fullmatch(first), first
            names = [line.partition(b":")[0].lower() for line in lines]
            assert all(b":" in line and b"\r" not in line and b"\n" not in line for line in lines), lines
            assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
            assert b"set-cookie" not in names
            assert KEY not in head
            assert first[9:10] < b"4" or KEY not in body
            assert b" 200 " in world.ask(healthy_requests()[0])[:20]

        yield drive


TOKENS = st.lists(
    st.one_of(st.sampled_from((b"TOKEN", b"TOKE-", b"\n", b"\r\n", b" ", b"\0", b"x" * 200)), st.binary(max_size=50)),
    max_size=5,
).map(b"".join)


GATEWAY = (
    of_bytes(
        "gateway-head",
        _head,
        healthy_requests,
        (Refused,),
        known=(
            b"GET http://h\xff/ HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET http://h/\xff HTTP/1.1\r\nHost: h\r\n\r\n",
            b"\xff http://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET http://127.0.0.1:4711/upstream/NO/v1/models HTTP/1.0\r\n\r\n",
        ),
    ),
    of_bytes("gateway-request", _request, healthy_requests, ()),
    Target("gateway-token", _token, TOKENS, (), known=(b"TOKEN\n", b" TOKEN \r\n", b"TOKE-\n", b"TOKEN")),
    of_bytes(
        "gateway-answer",
        _answer,
        healthy_answers,
        (),
        known=(
            b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        ),
    ),
)
