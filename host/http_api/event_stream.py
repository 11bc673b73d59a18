"""Server-sent events: each as it comes, with a sign of life in between, until the program or the browser leaves."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

from aiohttp import web

from shared_schema.errors import DumbwaiterError

log = logging.getLogger(__name__)

PING_SECONDS = 15.0
DONE = "[DONE]"


def event(data: Any, *, kind: str | None = None, number: int | None = None) -> bytes:
    """One event. `data` is JSON, or a text as it is."""
    lines = "" if number is None else f"id: {number}\n"
    lines += "" if kind is None else f"event: {kind}\n"
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)  # which has no line ends
    return f"{lines}data: {text}\n\n".encode("utf-8", "replace")


async def send(
    request: web.Request, events: AsyncIterator[bytes], holds: Callable[[], Awaitable[bool]]
) -> web.StreamResponse:
    """Send events until there are no more, or the program leaves. What is under way goes on without it.

    `holds` is asked every `PING_SECONDS` whether who listens may go on: a stream may last longer than that holds.
    """
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
    )
    waiting: asyncio.Task[bytes | None] | None = None
    with suppress(ConnectionResetError):
        await response.prepare(request)
        async with aclosing(events) as items:  # type: ignore[type-var]
            asked = time.monotonic()
            try:
                while True:
                    waiting = waiting or asyncio.create_task(_next(items))
                    done, _ = await asyncio.wait([waiting], timeout=PING_SECONDS)
                    if not done:
                        await response.write(b": alive\n\n")
                    if not done or time.monotonic() - asked >= PING_SECONDS:
                        asked = time.monotonic()
                        if not await holds():
                            break
                    if not done:
                        continue
                    item, waiting = waiting.result(), None
                    if item is None:
                        break
                    await response.write(item)
            except DumbwaiterError as error:  # what was looked at is gone
                await response.write(event({"detail": error.what}, kind="error"))
            except (asyncio.CancelledError, ConnectionResetError):
                raise
            except Exception:  # the boundary of one stream: its answer has begun, and can only end
                log.exception("a stream failed", extra={"path": request.path[:200]})
            finally:
                if waiting is not None:
                    waiting.cancel()
                    await asyncio.wait([waiting])
        await response.write_eof()
    return response


async def _next(items: AsyncIterator[bytes]) -> bytes | None:
    return await anext(items, None)
