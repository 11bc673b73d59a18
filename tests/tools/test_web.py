"""`web_fetch`: always through the proxy, and readable."""

from __future__ import annotations

import asyncio
import codecs
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from container_agent.tools import web as fetching
from container_agent.tools.charset import decoded
from container_agent.tools.toolbox import Toolbox
from shared_schema.html_text import text_of
from tests.tools.bench import Turn

PAGES = {
    "http://site.example/": (
        "text/html; charset=latin-1",
        "<title>T</title><h1>Caf\xe9</h1><p>One<br>two".encode("latin-1"),
    ),
    "http://site.example/data": ("application/json", b'{"a": 1}'),
    "http://site.example/picture": ("image/png", b"\x89PNG\0"),
    "http://site.example/long": ("text/plain", b"x" * 3_000_000),
    "http://site.example/odd": ("text/plain; charset=no-such", b"odd"),
}

AWAY = {
    "http://site.example/away": "file:///etc/passwd",
    "http://site.example/secure": "https://127.0.0.1:1/",
    "http://site.example/moved": "/data",
    "http://site.example/round": "/round",
}


class Proxy(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path in AWAY:
            self.send_response(302)
            self.send_header("Location", AWAY[self.path])
            self.end_headers()
            return
        kind, body = PAGES.get(self.path, ("text/plain", b"this host is not on the list"))
        self.send_response(200 if self.path in PAGES else 403)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy that is the whole web, and what it was asked for."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Proxy,), {"asked": asked}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_page_comes_as_text_through_the_proxy(turn: Turn, proxy: tuple[str, list[str]]) -> None:
    box = await turn.tools({"HTTP_PROXY": proxy[0], "NO_PROXY": "*"})
    assert await box.call("web_fetch", {"url": "http://site.example/"}) == (
        "http://site.example/\n\nT\n\n# Caf\xe9\n\nOne\ntwo"
    )
    assert (await box.call("web_fetch", {"url": "http://site.example/data"})).endswith('{"a": 1}')
    assert (await box.call("web_fetch", {"url": "http://site.example/odd"})).endswith("odd")
    assert (await box.call("web_fetch", {"url": "http://site.example/moved"})).startswith("http://site.example/data\n")
    long = await box.call("web_fetch", {"url": "http://site.example/long"})
    assert long.endswith("[only the first 2,097,152 bytes]")
    assert len(long) < 41_000
    names = ("", "data", "odd", "moved", "data", "long")
    assert proxy[1] == [f"http://site.example/{name}" for name in names]


async def test_what_is_refused_comes_back_as_a_sentence(turn: Turn, proxy: tuple[str, list[str]]) -> None:
    box = await turn.tools({"http_proxy": proxy[0]})
    for url, sentence in (
        ("http://other.example/", "the page answers 403 Forbidden: this host is not on the list"),
        ("http://site.example/picture", "the page is not text but image/png"),
        ("file:///etc/passwd", "that is not an http or https URL"),
        ("http://a b/", "that is not an http or https URL"),
        ("http://[x/", "that is not an http or https URL"),
        (
            "https://site.example/",
            "this agent has no way to the web",
        ),
    ):
        assert await box.call("web_fetch", {"url": url}) == f"Error: {sentence}"
    for name, sentence in (
        ("away", "the page leads to what is not an http or https URL"),
        ("round", "the page leads from one to the other without end"),
    ):
        assert await box.call("web_fetch", {"url": f"http://site.example/{name}"}) == f"Error: {sentence}"


async def test_a_proxy_that_is_gone_is_an_error(turn: Turn) -> None:
    box = await turn.tools({"HTTP_PROXY": "http://127.0.0.1:1"})
    said = await box.call("web_fetch", {"url": "http://site.example/"})
    assert said.startswith("Error: site.example cannot be reached")


DRIPS = {
    "head": ("http", b"HTTP/1.1 200 OK\r\nX-Long: "),
    "tunnel": ("https", b"HTTP/1.1 200 OK\r\nX-Long: "),
    "handshake": ("https", b"HTTP/1.1 200 OK\r\n\r\n"),
    "length": ("http", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "body": ("http", b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"),
    "refusal": ("http", b"HTTP/1.1 404 Not Found\r\n\r\n"),
}


@pytest.mark.parametrize("how", ["time", "cancellation"])
@pytest.mark.parametrize("where", DRIPS)
async def test_a_page_that_drips_is_left_in_time(where: str, how: str) -> None:
    scheme, beginning = DRIPS[where]
    async with dripping(beginning) as (url, begun, left):
        tool = fetching.tool({f"{scheme}_proxy": url}, seconds=0.5 if how == "time" else 60)
        call = asyncio.create_task(
            Toolbox([tool], lambda name, seconds: None).call(tool.name, {"url": f"{scheme}://x/"})
        )
        async with asyncio.timeout(60):
            await begun.wait()
            if how == "time":
                assert await call == "Error: the page took longer than 0.5 seconds"
            else:
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
            await left.wait()


@asynccontextmanager
async def dripping(beginning: bytes) -> AsyncIterator[tuple[str, asyncio.Event, asyncio.Event]]:
    """A proxy that goes on a byte at a time behind its beginning: whether it has begun, and was left."""
    begun, left = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(beginning)
        begun.set()
        try:
            if beginning == DRIPS["handshake"][1]:
                await reader.read(1)
                writer.write(b"\x16\x03\x03\x40\x00\x02")  # a long record of TLS begins
            while not writer.transport.is_closing():
                writer.write(b"0")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        finally:
            left.set()
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", begun, left


async def test_a_redirect_does_not_lead_around_the_proxy(turn: Turn, proxy: tuple[str, list[str]]) -> None:
    box = await turn.tools({"HTTP_PROXY": proxy[0]})
    said = await box.call("web_fetch", {"url": "http://site.example/secure"})
    assert said == "Error: this agent has no way to the web"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<script>x()</script>a<style>b</style><p>c</p>", "a\nc"),
        ('<ul><li><a href="https://x.example/">x</a></li><li>y</ul>', "- x (https://x.example/)\n\n- y"),
        ("<svg><svg></svg>hidden</svg>shown &amp; &lt;ok&gt;", "shown & <ok>"),
        ("<" * 1000, "<" * 1000),
        ("</p></script>", ""),
        ("<script>if (a<b && c>d) x('</p>')</script>a<STYLE>p>q{</Style >b<style>never ended", "ab"),
        ('<a title="1 > 2" href=https://x.example/?a&amp;b>x</a>', "x (https://x.example/?a&b)"),
        ("a<!-- <p>b --> c <!doctype x><?xml y?><![CDATA[z]]>d<!-- e", "a c d"),
        ("1 < 2 <3 <" + "b" * 5_000 + "> é &eacute; &#233;", "1 < 2 <3 <" + "b" * 5_000 + "> é é é"),
    ],
)
def test_html_is_read_as_a_person_would(html: str, text: str) -> None:
    assert text_of(html) == text


GREETING = "\u041f\u0440\u0438\u0432\u0435\u0442"
KANJI = "\u65e5\u672c\u8a9e"


@pytest.mark.parametrize(
    ("declared", "data", "expected"),
    [
        ("windows-1251", GREETING.encode("cp1251"), GREETING),
        (None, b'<meta charset="windows-1251">' + GREETING.encode("cp1251"), GREETING),
        (None, b"<META http-equiv=x content='text/html; charset=Shift_JIS'>" + KANJI.encode("cp932"), KANJI),
        ("utf-8", b'<meta charset="windows-1251">' + GREETING.encode(), GREETING),
        ("iso-8859-1", "\ufeff\u20ac".encode(), "\u20ac"),
        (None, codecs.BOM_UTF16_LE + KANJI.encode("utf-16-le"), KANJI),
        ("utf-16", KANJI.encode("utf-16-le"), KANJI),
        ("iso-8859-1", b"\x80 \x93q\x94", "\u20ac \u201cq\u201d"),
        ("gb2312", KANJI.encode("gb18030"), KANJI),
        ("x-sjis", KANJI.encode("cp932"), KANJI),
        (None, b"caf\xe9", "caf\xe9"),
        (None, KANJI.encode(), KANJI),
        (None, b'<meta charset="utf-16">' + KANJI.encode(), KANJI),
        (None, b'<?xml version="1.0" encoding="koi8-r"?>' + GREETING.encode("koi8-r"), GREETING),
        ("base64", b"plain", "plain"),
        ("punycode", b"plain-abc", "plain-abc"),  # a megabyte of it would take minutes
        (None, b"<meta charset=idna>plain-abc", "plain-abc"),
    ],
)
def test_the_charset_of_a_page_is_found_as_browsers_do(declared: str | None, data: bytes, expected: str) -> None:
    assert decoded(data, declared, is_whole=True).endswith(expected)


def test_a_page_that_was_cut_within_a_character_is_still_utf8() -> None:
    assert decoded((KANJI * 2).encode()[:-1], None, is_whole=False) == f"{KANJI}{KANJI[:2]}"
