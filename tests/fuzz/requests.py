"""Requests on `host.sock`: any method, path, headers and body; parameters of the wrong shape; bytes that are no HTTP.

The server is the real one on a real socket, over the real operations and a real registry. No agents are started.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from host.api.server import ApiServer
from host.operations.registry import OPERATIONS, STREAMS
from tests.fuzz import ledger
from tests.fuzz.ledger import DESTINATION
from tests.fuzz.target import Drive, Target, of_bytes
from tests.fuzz.values import BROKEN_JSON, JSON_VALUES

TOO_LONG = b"more than 4 MiB"  # said often enough
_SILENT_SECONDS = 0.005
_EXPECTED = {200, 400, 404, 405, 409, 413, 500}

KNOWN_VALUES = st.one_of(
    st.sampled_from(
        (
            "assistant", "other", "memory:one", "memory:two", "cli:terminal", DESTINATION, "echo", "hello", "pattern",
            "shared", "per-thread", "mention", "active", "(a?){300}", "first", "one", "ses_", True, False, None, 1, 0,
            ["model"], {"path": "/", "name": "x"}, ["/dev/null"], 0.01,
        )
    ),
    JSON_VALUES,
)  # fmt: skip
HEADERS = st.lists(
    st.sampled_from(
        (
            "Content-Type: application/json",
            "Content-Type: application/json; charset=utf-16",
            "Content-Type: text/plain; charset=no-such-charset",
            "Content-Type: multipart/form-data",
            "Content-Encoding: gzip",
            "Content-Encoding: deflate",
            "Upgrade: websocket",
        )
    ),
    max_size=2,
)


_INJECT = "/v1/operations/message.inject"
KNOWN: Sequence[tuple[str, str, list[str], bytes]] = (
    ("POST", _INJECT, [], TOO_LONG),
    ("POST", _INJECT, [], b'{"\\ud800":1}'),
    ("POST", _INJECT, [], b"[" * 100_000),
    ("POST", _INJECT, ["Content-Type: text/plain; charset=no-such-charset"], b"{}"),
    ("POST", "/v1/streams/chat", ["Content-Type: text/plain; charset=no-such-charset"], b"{}"),
    ("POST", "/v1/streams/chat", ["Content-Encoding: gzip"], b"\0\0"),
    ("POST", _INJECT, ["Content-Encoding: deflate"], b"{" * 250_000),
    ("POST", _INJECT, [], b'{"messaging_group":"memory:one","text":"x","files":["\\u0000"]}'),
    ("POST", "/v1/operations/agent_group.set", [], b'{"name":"assistant","pids":%d}' % 10**30),
    ("POST", "/v1/operations/agent_group.set", [], b'{"name":"assistant","cpus":NaN}'),
)


@st.composite
def _requests(draw: DrawFn) -> tuple[str, str, list[str], bytes]:
    """Method, path, headers, body."""
    streams = draw(st.integers(0, 9)) == 0
    functions = STREAMS if streams else OPERATIONS
    name = draw(st.sampled_from(sorted(functions)))
    mandatory: dict[str, SearchStrategy[Any]] = {}
    optional: dict[str, SearchStrategy[Any]] = {"unknown": KNOWN_VALUES}
    for parameter in list(inspect.signature(functions[name]).parameters.values())[1:]:  # the first is the services
        (mandatory if parameter.default is parameter.empty else optional)[parameter.name] = KNOWN_VALUES
    given = st.fixed_dictionaries(mandatory, optional=optional)
    body = draw(
        st.one_of(
            given.map(json.dumps),
            given.map(json.dumps),
            JSON_VALUES.map(json.dumps),
            st.sampled_from(BROKEN_JSON),
        ).map(str.encode)
        | st.binary(max_size=40)
        | st.just(TOO_LONG)
    )
    path = f"/v1/{'streams' if streams else 'operations'}/{name}"
    if draw(st.integers(0, 9)) == 0:
        path = draw(
            st.sampled_from(("/", "/v1/operations/", "/v1/streams/no", "/v1/operations/%00%ff", "/v1/../x", "*"))
        )
    method = "POST"
    if draw(st.integers(0, 9)) == 0:
        method = draw(st.sampled_from(("GET", "PUT", "HEAD", "OPTIONS", "DELETE", "BREW", "CONNECT")))
    return method, path, draw(HEADERS), body


def healthy_requests() -> Sequence[bytes]:
    """Requests as the command line makes them."""
    return [
        _request("POST", "/v1/operations/status", ["Content-Type: application/json"], b"{}"),
        _request("POST", "/v1/operations/message.inject", [], b'{"messaging_group":"memory:one","text":"hello"}'),
        _request("POST", "/v1/streams/chat", [], b'{"text":"hello","timeout":0.01}'),
        b"POST /v1/operations/status HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ]


def _request(method: str, path: str, headers: Sequence[str], body: bytes) -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: host", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


class Complaints(logging.Handler):
    """What was logged as an error: the host's log has nothing of that kind to say about a request."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info is not None else None
        if isinstance(error, HttpProcessingError | web.RequestPayloadError):
            return  # aiohttp's own word on bytes that are no HTTP, or not what the headers say
        self.records.append(logging.Formatter().format(record))


@contextmanager
def _server(folder: Path) -> Iterator[Callable[..., bytes]]:
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    try:
        with ledger.opened(folder) as there:
            server = ApiServer(there.services)
            there.run(server.start())
            version = there.run(there.version())

            def ask(data: bytes, silence: float | None = None) -> bytes:
                nonlocal version
                complaints.records.clear()
                try:
                    return bytes(there.run(_ask(there.layout.socket, data, silence)))
                finally:
                    if there.run(there.version()) != version:
                        there.run(there.put_back())
                        version = there.run(there.version())
                    shutil.rmtree(there.layout.spool)
                    there.layout.spool.mkdir()
                    assert complaints.records == [], complaints.records[0]

            try:
                yield ask
            finally:
                there.run(server.close())
    finally:
        logging.getLogger().removeHandler(complaints)


async def _ask(socket: Path, data: bytes, silence: float | None) -> bytes:
    """The answer to these bytes; what there is of it after `silence`, or when a stream pauses."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    answer = b""
    try:
        writer.write(data)
        while True:
            seconds = _SILENT_SECONDS if b"ndjson" in answer else silence
            async with asyncio.timeout(seconds):
                chunk = await reader.read(65536)
            if not chunk:
                return answer
            answer += chunk
    except (TimeoutError, ConnectionError):
        return answer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


@contextmanager
def _operations(folder: Path) -> Iterator[Drive]:
    with _server(folder) as ask:

        def drive(value: tuple[str, str, list[str], bytes]) -> None:
            method, path, headers, body = value
            answer = ask(_request(method, path, headers, body * 300_000 if body == TOO_LONG else body))
            head, _, said_body = answer.partition(b"\r\n\r\n")
            status = int(head.split()[1])
            assert status in _EXPECTED, head
            if status == 500:
                assert b"unexpected" not in said_body, said_body
            if b"application/json" in head and method != "HEAD":
                said = json.loads(said_body)
                assert ("result" in said) == (status == 200)
                assert status == 200 or said["error"]["what"]

        yield drive


@contextmanager
def _http(folder: Path) -> Iterator[Drive]:
    with _server(folder) as ask:

        def drive(data: bytes) -> None:
            ask(data, _SILENT_SECONDS)
            assert b" 200 " in ask(healthy_requests()[0])[:20]

        yield drive


REQUEST_TARGETS = (
    Target("api", _operations, _requests(), (), known=KNOWN),
    of_bytes("http", _http, healthy_requests, ()),
)
