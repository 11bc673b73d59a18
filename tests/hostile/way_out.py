"""Tricks with the gateway: connections by the thousand that say nothing, or their heads byte by byte."""

from __future__ import annotations

import os
import resource
import socket
import time
from contextlib import suppress

from tests.hostile.session import Session

_HEAD = b"POST /upstream/openai/v1/responses HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 10_000
_FEWEST_SECONDS, _MOST_SECONDS = 2.0, 8.0  # a turn may take 4 s, and 12 where all is as large as it comes


def connections_without_end(at: Session, message: str) -> None:
    """As many as an agent can hold open, and a new one for each that is ended; half of them go on with their heads."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.chdir(at.folder)
    held: list[socket.socket] = []
    began, sent = time.monotonic(), 0
    while time.monotonic() - began < min(_MOST_SECONDS, max(_FEWEST_SECONDS, at.sizes.seconds)):
        at.beat()
        with suppress(OSError):  # no more descriptors; the host ended it
            for _ in range(100):
                held.append(_connected())
        for place, connection in enumerate(held):
            with suppress(OSError):
                connection.send(_HEAD[sent : sent + 1] if place % 2 else b"")
        sent = (sent + 1) % len(_HEAD)
        if len(held) >= at.sizes.refusals:
            for connection in held[: len(held) // 2]:
                connection.close()
            del held[: len(held) // 2]
    at.reply(message, "done")
    at.hold()


def _connected() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(0.01)
    connection.connect("gateway.sock")
    return connection
