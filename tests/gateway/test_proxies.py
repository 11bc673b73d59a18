"""The proxies of the environment: which one counts for what, and that the gateway goes through it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from host.gateway.grant import Grant, Patience
from host.gateway.proxies import Proxies, Proxy, configure
from host.gateway.server import Transport
from host.gateway.upstreams import Upstream, UpstreamKind
from tests.gateway.world import GROUP, world

LOGIN = "Basic YW5uOnNlY3JldEAx"  # ann:secret@1


@dataclass
class FakeProxy:
    """Takes CONNECT and plain requests, and sends all of them to one place, whatever they ask for."""

    to: int
    port: int = 0
    asked: list[str] = field(default_factory=list)
    logins: list[str | None] = field(default_factory=list)
    status: str = "200 OK"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        self.asked.append(" ".join(lines[0].split()[:2]))
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        self.logins.append(headers.get("proxy-authorization"))
        if not self.status.startswith("200"):
            writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: 0\r\n\r\n".encode())
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self.to)
        if lines[0].startswith("CONNECT "):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            method, url, version = lines[0].split()
            path = url.partition("://")[2].partition("/")[2]
            rest = [line for line in lines[1:] if not line.lower().startswith("proxy-")]
            back.write("\r\n".join([f"{method} /{path} {version}", *rest]).encode())
        await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


@asynccontextmanager
async def fake_proxy(to: int) -> AsyncIterator[FakeProxy]:
    proxy = FakeProxy(to)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()


@pytest.mark.parametrize(
    ("scheme", "host", "expected"),
    [
        ("https", "api.openai.com", "p:3128"),
        ("http", "api.openai.com", "q:80"),
        ("https", "localhost", None),
        ("http", "127.0.0.1", None),
        ("http", "::1", None),
        ("https", "corp.example", None),
        ("https", "deep.corp.example", None),
        ("https", "notcorp.example", "p:3128"),
        ("https", "10.1.2.3", None),
        ("https", "11.1.2.3", "p:3128"),
        ("https", "one.port", None),
        ("https", "wild.star", None),
    ],
)
def test_which_proxy_counts_for_which_host(scheme: str, host: str, expected: str | None) -> None:
    found = configure(
        {
            "HTTPS_PROXY": "http://p:3128/",
            "http_proxy": "q",
            "HTTP_PROXY": "http://never:1",
            "NO_PROXY": ".corp.example, 10.0.0.0/8 one.port:443,*.star",
        }
    )
    proxy = found.of(scheme, host, 443)
    assert (None if proxy is None else str(proxy)) == expected


def test_all_proxy_counts_where_nothing_else_is_said_and_a_star_means_none() -> None:
    assert str(configure({"ALL_PROXY": "http://a:1"}).of("https", "x.example", 443)) == "a:1"
    assert configure({"ALL_PROXY": "http://a:1", "NO_PROXY": "*"}).of("https", "x.example", 443) is None
    assert configure({}).of("https", "x.example", 443) is None


@pytest.mark.parametrize("text", ["socks5://p:1080", "https://p:443", "http://", "http://p:99999", "http://p q:1"])
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(text: str) -> None:
    found = configure({"HTTPS_PROXY": text.replace("://", "://ann:secret@")})
    assert found.https is None
    assert found.problems == ("HTTPS_PROXY names no proxy that can be used here: write http://HOST:PORT",)


def test_the_password_is_in_no_text() -> None:
    found = configure({"https_proxy": "http://ann:secret%401@p:3128"})
    assert found.https == Proxy("p", 3128, ("ann", "secret@1"))
    assert found.https is not None
    assert found.https.authorization == LOGIN
    assert "secret" not in f"{found} {found.https} {found.https.url} {found.used}"


async def test_model_calls_and_allowed_hosts_go_through_the_proxy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with world(tmp_path, Transport.UNIX) as behind, fake_proxy(behind.service.port) as proxy:
        through = Proxy("127.0.0.1", proxy.port, ("ann", "secret@1"))
        async with world(tmp_path, Transport.UNIX, proxies=Proxies(through, through)) as made:
            upstream = Upstream("anthropic", "http://api.example.com", None, UpstreamKind.ANTHROPIC, url_from="X")
            made.grant = Grant(GROUP, upstreams={"anthropic": upstream})
            assert (await made.message())["status"] == 200
            made.allow("files.example.com")
            # Nobody here can look the name up: it is left to the proxy.
            tunnel = await made.raw(
                b"CONNECT files.example.com:443 HTTP/1.1\r\nHost: files.example.com:443\r\n\r\n"
                b"GET /through HTTP/1.1\r\nHost: files.example.com\r\nConnection: close\r\n\r\n"
            )
            plainly = b"GET http://files.example.com/plain?a=1 HTTP/1.1\r\nHost: files.example.com\r\n\r\n"
            fetched = await made.raw(plainly)
            assert tunnel.startswith(b"HTTP/1.1 200 Connection established")
            assert b"hello" in tunnel
            assert b"hello" in fetched
        assert proxy.asked == [
            "POST http://api.example.com/v1/messages",
            "CONNECT files.example.com:443",
            "GET http://files.example.com/plain?a=1",
        ]
        assert proxy.logins == [LOGIN] * 3
        assert [seen.target for seen in behind.service.seen] == ["/v1/messages", "/through", "/plain?a=1"]
        assert not [seen for seen in behind.service.seen if "proxy-authorization" in seen.headers]
    assert "secret" not in caplog.text
    assert "YW5u" not in caplog.text


async def test_a_connection_to_a_proxy_that_has_not_answered_ends_with_the_session(tmp_path: Path) -> None:
    """Nothing else knows it: it would be open for as long as the proxy likes."""
    ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    begun = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        said = await reader.read()
        if not ended.done():
            ended.set_result(said)
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    through = Proxy("127.0.0.1", server.sockets[0].getsockname()[1])
    patience = Patience(connect=60)
    async with world(tmp_path, Transport.UNIX, patience, proxies=Proxies(through, through)) as made:
        made.allow("203.0.113.9:443")
        _, writer = await made.connect()
        writer.write(b"CONNECT 203.0.113.9:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(begun.wait(), 60)
        await made.gateway.close(made.session_id)
        assert await asyncio.wait_for(ended, 30) == b""
        writer.transport.abort()
    server.close()


async def test_a_proxy_that_refuses_is_named(tmp_path: Path) -> None:
    async with fake_proxy(1) as proxy:
        through = Proxy("127.0.0.1", proxy.port)
        async with world(tmp_path, Transport.UNIX, proxies=Proxies(through, through)) as made:
            proxy.status = "407 Proxy Authentication Required"
            made.grant = Grant(
                GROUP,
                upstreams={"anthropic": Upstream("anthropic", "https://api.example.com", None, UpstreamKind.ANTHROPIC)},
            )
            answer = await made.message()
            assert answer["status"] == 502
            assert f"the proxy 127.0.0.1:{proxy.port} refused the connection (status 407)" in answer["error"]["message"]
            made.allow("files.example.com")
            head = b"CONNECT files.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n"
            assert b"refused the connection (status 407)" in await made.raw(head)
        assert proxy.asked == ["CONNECT api.example.com:443", "CONNECT files.example.com:443"]


async def test_a_name_that_leads_into_the_own_network_is_not_left_to_the_proxy(tmp_path: Path) -> None:
    async with fake_proxy(1) as proxy:
        through = Proxy("127.0.0.1", proxy.port)
        async with world(tmp_path, Transport.UNIX, proxies=Proxies(through, through)) as made:
            made.allow("169.254.169.254.nip.test", "10.0.0.7")
            answer = await made.raw(b"CONNECT 10.0.0.8:443 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"403" in answer
        assert proxy.asked == []
