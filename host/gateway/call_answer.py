"""What an agent gets of a service's answer: streamed as it comes, without the host's key, and read along for usage."""

from __future__ import annotations

import asyncio
import logging
import re
import time

import aiohttp
from aiohttp import hdrs

from host.gateway.call_request import Asked
from host.gateway.connection import Connection
from host.gateway.grant import Patience
from host.gateway.head import passed_on
from host.gateway.pace import SessionPace, Slices
from host.gateway.redaction import WithoutKey, without_key, without_keys
from host.gateway.upstreams import Upstream
from host.gateway.usage import UsageReader

log = logging.getLogger(__name__)

_LARGEST_ERROR = 64 * 1024
_MOST_SAID = 2000
_MAY_ANSWER = re.compile(
    r"content-type|content-language|cache-control|date|retry-after(?:-ms)?|x-should-retry|(?:x-)?request-id|warning"
    r"|(?:anthropic-|x-)?ratelimit-[a-z-]{1,60}|anthropic-(?:version|beta)|openai-(?:version|model|processing-ms)"
    r"|server-timing",
    re.IGNORECASE,
)
"""Headers of a service that an agent gets: no cookies, no names of the host's accounts, no other places to go to."""
_WITHOUT_BODY = (204, 304)


def is_coded(response: aiohttp.ClientResponse) -> bool:
    """Whether an answer is compressed although that was not asked for."""
    return response.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() not in ("identity", "")


async def pass_on(
    asked: Asked, response: aiohttp.ClientResponse, connection: Connection, patience: Patience, reader: UsageReader
) -> bool:
    """Stream an answer as it comes; whether it came to its end."""
    length = response.headers.get(hdrs.CONTENT_LENGTH)
    no_body = asked.head.method == "HEAD" or response.status in _WITHOUT_BODY
    in_chunks = not no_body and length is None and not asked.head.is_http_1_0
    framing = (
        {"Content-Length": length} if length is not None else {"Transfer-Encoding": "chunked"} if in_chunks else {}
    )
    connection.write(_response_head(asked, response, framing))
    passing = None if asked.upstream.key is None else WithoutKey(asked.upstream.key.get_secret_value())
    try:
        async for arrived in response.content.iter_any():
            chunk = arrived if passing is None else passing.feed(arrived)
            if not chunk:
                continue
            connection.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if in_chunks else chunk)
            await _read_along(reader, chunk, connection.pace)
            await connection.drain(patience.silent)
    except (aiohttp.ClientError, TimeoutError):
        return False
    if passing is not None and (rest := passing.finish()):
        reader.feed(rest)
        connection.write(b"%x\r\n%b\r\n" % (len(rest), rest) if in_chunks else rest)
    if in_chunks:
        connection.write(b"0\r\n\r\n")
    return True


async def _read_along(reader: UsageReader, chunk: bytes, pace: SessionPace) -> None:
    """Look for what was used, in pieces: how long that takes is up to what the service sends."""
    slices, at = Slices(), 0
    while at < len(chunk):
        began = time.perf_counter()
        reader.feed(chunk[at : at + slices.size])
        at += slices.size
        slices.took(time.perf_counter() - began)
        if at < len(chunk):
            await asyncio.sleep(0)  # a step of its own
            await pace.turn()


async def pass_error(
    asked: Asked, response: aiohttp.ClientResponse, connection: Connection, patience: Patience
) -> None:
    """Pass an error on, without the key should it repeat it."""
    body = b""
    try:
        async with asyncio.timeout(patience.connect):
            while len(body) < _LARGEST_ERROR and (chunk := await response.content.readany()):
                body += chunk
    except (aiohttp.ClientError, TimeoutError):
        pass  # what there is of it says more than nothing
    if is_coded(response):  # whether it repeats the key cannot be seen; no SDK misses what it says
        body = b"The service sent an error in a coding that was not asked for.\n"
    body = _without_key(body.decode("utf-8", "surrogateescape"), asked.upstream).encode("utf-8", "surrogateescape")
    connection.write(_response_head(asked, response, {"Content-Length": str(len(body))}))
    connection.write(b"" if asked.head.method == "HEAD" else body)
    start = body[: 2 * _MOST_SAID].decode("utf-8", "replace")  # not more: the patterns are slow on what is made for it
    said = " ".join(without_keys(start).split())[:_MOST_SAID]
    extra = {"session_id": asked.session_id, "upstream": asked.upstream.name, "status": response.status, "said": said}
    log.warning("a model service refused a call", extra=extra)
    await connection.drain(patience.silent)


def _response_head(asked: Asked, response: aiohttp.ClientResponse, framing: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {response.status} {response.reason or ''}"]
    lines += [
        f"{name}: {value}"
        for name, value in passed_on(response.headers).items()
        if _MAY_ANSWER.fullmatch(name) is not None
    ]
    lines += [f"{name}: {value}" for name, value in framing.items()]
    text = _without_key("\r\n".join([*lines, "Connection: close", "", ""]), asked.upstream)
    return text.encode("utf-8", "surrogateescape")


def _without_key(text: str, upstream: Upstream) -> str:
    return without_key(text, None if upstream.key is None else upstream.key.get_secret_value())
