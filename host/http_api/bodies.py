"""What a program sends: JSON, bounded in size, depth and time before it is looked at."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any

from aiohttp import web

from host.http_api.errors import CallRefused, Refusal
from shared_schema import json_text

LARGEST = 48 * 1024**2
"""Bytes. A file of 25 MiB, the most that a message brings unless a setting says otherwise, is 34 as base64."""
SMALL = 1024**2
_LARGE_AT_ONCE = 2
_CHUNK_SECONDS = 20.0
_SECONDS = 120.0


class Bodies:
    """Reads bodies; of large ones a few at once, for each of them is in memory as a whole."""

    def __init__(self, *, chunk_seconds: float = _CHUNK_SECONDS) -> None:
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._chunk_seconds = chunk_seconds

    async def json(self, request: web.Request, *, largest: int = LARGEST) -> dict[str, Any]:
        """The object of a body; an empty body is an empty object. Raises `CallRefused`."""
        if "Content-Encoding" in request.headers:  # aiohttp waits for ever for the end of a broken one
            raise CallRefused(Refusal(415, "the body is compressed, and must not be", code="unsupported_media_type"))
        if request.body_exists and request.content_type != "application/json":
            hint = "send it with `Content-Type: application/json`"
            raise CallRefused(Refusal(415, "the body is not marked as JSON", hint, "unsupported_media_type"))
        length = request.content_length
        if length is not None and length > largest:
            raise _too_large(largest)
        async with nullcontext() if length is not None and length <= SMALL else self._large:
            body = await self._read(request, largest)
            if len(body) <= SMALL:
                return _parsed(body)
            return await asyncio.to_thread(_parsed, body)

    async def _read(self, request: web.Request, largest: int) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(_SECONDS):
                while True:
                    async with asyncio.timeout(self._chunk_seconds):
                        chunk = await request.content.readany()
                    if not chunk:
                        return bytes(body)
                    body += chunk
                    if len(body) > largest:
                        raise _too_large(largest)
        except TimeoutError as error:
            raise CallRefused(Refusal(408, "the body did not come in time", again=True, code="too_slow")) from error
        except (web.RequestPayloadError, ValueError) as error:
            raise CallRefused(Refusal(400, "the body is broken", code="invalid_json")) from error


def _too_large(largest: int) -> CallRefused:
    hint = f"send {largest // 1024**2} MiB at most"
    return CallRefused(Refusal(413, "the body is too large", hint, "too_large"))


def _parsed(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        value = json_text.parse(body)
    except ValueError as error:
        raise CallRefused(Refusal(400, "the body is not JSON", code="invalid_json")) from error
    if not isinstance(value, dict):
        raise CallRefused(Refusal(400, "the body is not a JSON object", code="invalid_json"))
    return value
