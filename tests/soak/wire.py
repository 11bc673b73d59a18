"""JSON objects, one a line: how host and platforms talk."""

from __future__ import annotations

import asyncio
import json
from typing import Any

LINE_BYTES = 4 * 1024**2


def line(value: dict[str, Any]) -> bytes:
    """An object as it is sent."""
    return json.dumps(value).encode() + b"\n"


async def put(writer: asyncio.StreamWriter, value: dict[str, Any]) -> None:
    """Send one object. Raises `OSError`."""
    writer.write(line(value))
    await writer.drain()


async def take(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next object; None when the other side has hung up, also in the middle of one."""
    try:
        received = await reader.readline()
    except OSError:
        return None
    if not received.endswith(b"\n"):
        return None
    value: dict[str, Any] = json.loads(received)
    return value
