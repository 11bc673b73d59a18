"""The tool `web_fetch`: a page of the web as text, through the gateway.

Every request goes to the proxy that the agent was given, so the host decides what can be reached; without one there is
no way out. Addresses are never resolved here. The time limit is one for all of a fetch, and its end is the end of the
connection, however slowly the other side talks.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from email.message import Message
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from container_agent import connections
from container_agent.tools.charset import decoded, is_wide
from container_agent.tools.schema import form, text
from container_agent.tools.tool import Arguments, Tool, ToolRefused, shortened
from shared_schema.dataclass import dataclass
from shared_schema.errors import NotFound
from shared_schema.html_text import text_of

if TYPE_CHECKING:
    import httpx2

_SECONDS = 30.0
_MAX_BYTES = 2 * 1024**2
_MAX_CHARACTERS = 40_000
_MOST_REDIRECTS = 10
_TEXTUAL = re.compile(r"text/|application/(json|xml|javascript|x-www-form-urlencoded|[\w.+-]+\+(json|xml))")
_HEADERS = {
    "User-Agent": "Dumbwaiter/1 (an agent's web_fetch)",
    "Accept": "text/html, text/*, */*;q=0.5",
    "Accept-Encoding": "identity",
    "Connection": "close",
}


def tool(environment: Mapping[str, str], *, seconds: float = _SECONDS) -> Tool:
    """The tool; `environment` names the proxies. A fetch that takes longer than these seconds is refused."""

    async def run(arguments: Arguments) -> str:
        try:
            async with asyncio.timeout(seconds):
                page = await _fetch(arguments["url"], environment)
        except TimeoutError as error:
            raise ToolRefused(f"the page took longer than {seconds:g} seconds") from error
        return await asyncio.to_thread(_told, page)  # a long page takes a while to read

    return Tool(
        "web_fetch",
        "Fetch a page of the web; HTML comes as plain text. Only hosts that were allowed for you can be reached.",
        form({"url": text("An http or https URL.", 4_000)}),
        run,
        seconds=seconds + 5,
        max_characters=_MAX_CHARACTERS,
    )


@dataclass(frozen=True, slots=True)
class _Page:
    where: str
    kind: str
    charset: str | None
    data: bytes
    is_whole: bool


async def _fetch(url: str, environment: Mapping[str, str]) -> _Page:
    """What is behind a URL, and behind those that it leads to. Raises `ToolRefused`."""
    import httpx2

    _require_web(url, "that")
    try:
        made = await asyncio.to_thread(connections.outward, environment, headers=_HEADERS)
        async with made as client:
            request: httpx2.Request | None = client.build_request("GET", url)
            for _ in range(_MOST_REDIRECTS):
                assert request is not None
                response = await client.send(request, stream=True)
                try:
                    request = response.next_request
                    if request is None:
                        return await _read(response)
                    _require_web(str(request.url), "the page leads to what")
                finally:
                    await response.aclose()
    except NotFound as error:
        raise ToolRefused("this agent has no way to the web") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        why = connections.why_refused(error, url) or " ".join(str(error).split())[:200] or type(error).__name__
        raise ToolRefused(f"{urlsplit(url).hostname} cannot be reached: {why}") from error
    raise ToolRefused("the page leads from one to the other without end")


async def _read(response: httpx2.Response) -> _Page:
    """The page, or its first part. Raises `ToolRefused` for one that says that it is none."""
    most = 500 if response.is_error else _MAX_BYTES
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > most:
            break
    if response.is_error:
        said = " ".join(data[:most].decode("utf-8", "replace").split())[:300]
        raise ToolRefused(f"the page answers {response.status_code} {response.reason_phrase}: {said}")
    head = Message()
    head["Content-Type"] = response.headers.get("Content-Type", "text/plain")
    charset = head.get_content_charset() if "charset" in (response.headers.get("Content-Type") or "").lower() else None
    return _Page(str(response.url), head.get_content_type(), charset, bytes(data[:most]), len(data) <= most)


def _told(page: _Page) -> str:
    """The page for a model. Raises `ToolRefused` for one that is not text."""
    is_binary = b"\0" in page.data[:1024] and not is_wide(page.data, page.charset)
    if is_binary or not (_TEXTUAL.match(page.kind) or page.kind == "application/octet-stream"):
        raise ToolRefused(f"the page is not text but {page.kind}")
    found = decoded(page.data, page.charset, is_whole=page.is_whole)
    if page.kind in ("text/html", "application/xhtml+xml"):
        found = text_of(found)
    note = "" if page.is_whole else f"\n[only the first {len(page.data):,} bytes]"
    return f"{page.where}\n\n{shortened(found, _MAX_CHARACTERS - len(page.where) - 100)}{note}"


def _require_web(url: str, what: str) -> None:
    """Raises `ToolRefused` for what is no URL of the web: `file:` would be a way around the tools for files."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        raise ToolRefused(f"{what} is not an http or https URL")
    if not url.isascii():
        raise ToolRefused("the URL has characters that must be written as %-codes")
