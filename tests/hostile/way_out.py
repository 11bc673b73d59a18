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


def requests_full_of_work(at: Session, message: str) -> None:
    """Refusals, slow heads, long heads and bodies in tiny pieces by the hundred, over and over."""
    os.chdir(at.folder)
    ways = [
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        (b"CONNECT unlisted.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        (b"POST /upstream/openai/v1/responses HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n"),
        (b"POST /upstream/nobody/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 1000),
        (b"GET /x HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 150 + b"Z: " + b"z" * 60_000 + b"\r\n\r\n", b""),
    ]
    held: list[tuple[socket.socket, bytes]] = []
    began, number = time.monotonic(), 0
    while time.monotonic() - began < min(_MOST_SECONDS, max(_FEWEST_SECONDS, at.sizes.seconds)):
        at.beat()
        with suppress(OSError):
            while len(held) < 100:
                first, more = ways[number % len(ways)]
                connection = _connected()
                held.append((connection, more))
                connection.send(first)
                number += 1
        for connection, more in list(held):
            try:
                connection.setblocking(False)
                if more:
                    connection.send(more)
                if not connection.recv(65536):
                    raise ConnectionError
            except BlockingIOError:
                pass
            except OSError:
                connection.close()
                held.remove((connection, more))
    at.reply(message, "done")
    at.hold()


def _connected() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(0.01)
    connection.connect("gateway.sock")
    return connection
