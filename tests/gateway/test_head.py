"""Heads of requests: what is asked for, and that no bytes break their reader."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.gateway.head import Call, Fetch, Tunnel, Wanted, parse, passed_on, wanted
from host.gateway.policy import NetworkDestination as To
from host.gateway.refusal import Refused

PARTS = [
    b"GET ", b"POST ", b"CONNECT ", b"/upstream/openai", b"/..", b"%2e", b"?q", b"http://", b"example.com", b"user@",
    b"[::1]", b":443", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n", b"\r", b"Host: x", b"Content-Length: ", b"4", b"-1",
    b"Transfer-Encoding: chunked", b"Connection: upgrade", b"Upgrade: websocket", b"\r\n\r\n", b"body", b"\0", b"\xff",
]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("POST /upstream/openai/v1/x?a=b", Call("openai", "/v1/x", "?a=b")),
        ("GET /upstream/my_local", Call("my_local", "", "")),
        ("GET http://127.0.0.1:4711/upstream/openai/models", Call("openai", "/models", "")),
        ("GET http://example.com/upstream/x", Fetch(To("example.com", 80), "/upstream/x", "example.com")),
        ("GET http://Example.COM:8080?q", Fetch(To("example.com", 8080), "/?q", "Example.COM:8080")),
        ("CONNECT Example.com.:443", Tunnel(To("example.com", 443))),
        ("CONNECT [2606::1]:443", Tunnel(To("2606::1", 443))),
    ],
)  # fmt: skip
async def test_a_request_asks_for_what_its_first_line_says(line: str, meant: Wanted) -> None:
    assert wanted(parse(f"{line} HTTP/1.1\r\nHost: other\r\n\r\n".encode())) == meant


async def test_headers_of_one_connection_are_not_passed_on() -> None:
    head = parse(
        b"GET /upstream/openai HTTP/1.1\r\nHost: x\r\nConnection: close, X-One\r\nX-One: 1\r\nTE: trailers\r\n"
        b"Upgrade: h2c\r\nProxy-Authorization: secret\r\nX-Two: 2\r\nX-Two: 3\r\n\r\n"
    )
    assert list(passed_on(head.headers).items()) == [("X-Two", "2"), ("X-Two", "3")]


@given(st.lists(st.sampled_from(PARTS) | st.binary(max_size=8), max_size=14))
def test_no_bytes_break_the_reader(parts: list[bytes]) -> None:
    async def read() -> None:
        head = parse(b"".join(parts) + b"\r\n\r\n")
        wanted(head)
        if head.chunks is not None:
            head.chunks.take(b"".join(parts))

    try:
        asyncio.run(read())
    except Refused:
        return
