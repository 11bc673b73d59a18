"""`web_fetch`: always through the proxy, and readable."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from container_agent.tools.page import text_of
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


class Proxy(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.endswith("/away"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
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
    long = await box.call("web_fetch", {"url": "http://site.example/long"})
    assert long.endswith("[only the first 2,097,152 bytes]")
    assert len(long) < 41_000
    assert proxy[1] == ["http://site.example/"] + [f"http://site.example/{name}" for name in ("data", "odd", "long")]


async def test_what_is_refused_comes_back_as_a_sentence(turn: Turn, proxy: tuple[str, list[str]]) -> None:
    box = await turn.tools({"http_proxy": proxy[0]})
    for url, sentence in (
        ("http://other.example/", "the page answers 403 Forbidden: this host is not on the list"),
        ("http://site.example/picture", "the page is not text but image/png"),
        ("file:///etc/passwd", "that is not an http or https URL"),
        ("http://a b/", "that is not an http or https URL"),
        ("http://[x/", "that is not an http or https URL"),
        ("https://site.example/", "this agent has no way to the web"),
    ):
        assert await box.call("web_fetch", {"url": url}) == f"Error: {sentence}"
    assert "is not allowed" in await box.call("web_fetch", {"url": "http://site.example/away"})


async def test_a_proxy_that_is_gone_is_an_error(turn: Turn) -> None:
    box = await turn.tools({"HTTP_PROXY": "http://127.0.0.1:1"})
    said = await box.call("web_fetch", {"url": "http://site.example/"})
    assert said.startswith("Error: site.example cannot be reached")


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<script>x()</script>a<style>b</style><p>c</p>", "a\nc"),
        ('<ul><li><a href="https://x.example/">x</a></li><li>y</ul>', "- x (https://x.example/)\n\n- y"),
        ("<svg><svg></svg>hidden</svg>shown &amp; &lt;ok&gt;", "shown & <ok>"),
        ("<" * 1000, "<" * 1000),
        ("</p></script>", ""),
    ],
)
def test_html_is_read_as_a_person_would(html: str, text: str) -> None:
    assert text_of(html) == text
