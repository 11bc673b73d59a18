"""Hostile sessions that hammer a gateway, as processes of their own: what they ask in every way that costs it work.

python -m tests.gateway.crowd SOCKET SECONDS KIND...        one session; ends by itself
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections.abc import Iterator

POST = b"POST /upstream/openai/v1/responses HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def _forever(first: bytes, more: bytes) -> Iterator[bytes]:
    yield first
    while True:
        yield more


def _byte_by_byte(data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        yield data[at : at + 1]


WAYS = {
    "tiny chunks": lambda: _forever(CHUNKED, b"1\r\na\r\n" * 10_000),
    "tiny pieces": lambda: _forever(CHUNKED + b"5000\r\n", b'"'),
    "escapes": lambda: _forever(POST + b"Content-Length: 999999999\r\n\r\n", b"\\u006d" * 10_000),
    "slow heads": lambda: _byte_by_byte(POST + b"X: " + b"y" * 60_000),
    "refusals": lambda: iter([b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"]),
    "unlisted": lambda: iter([b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n"]),
    "uploads": lambda: _forever(POST + b"Content-Length: 999999999\r\n\r\n", b"x" * 65536),
    "long heads": lambda: iter([POST + b"X: y\r\n" * 150 + b"Z: " + b"z" * 60_000 + b"\r\n\r\n"]),
}


def hammer(path: str, seconds: float, ways: list[str], connections: int = 200) -> int:
    """Hold so many connections, each going on in its way, and begin anew what ends; how many were begun."""
    folder, name = os.path.split(path)
    short = (
        f"/proc/self/fd/{os.open(folder, os.O_RDONLY)}/{name}"  # a socket's address is short, and a path may be long
    )
    poll = select.epoll()
    open_ones: dict[int, tuple[socket.socket, Iterator[bytes], bytes]] = {}
    begun, until = 0, time.monotonic() + seconds

    def begin() -> None:
        nonlocal begun
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.connect(short)
        except OSError:
            connection.close()
            return
        open_ones[connection.fileno()] = connection, WAYS[ways[begun % len(ways)]](), b""
        poll.register(connection, select.EPOLLIN | select.EPOLLOUT)
        begun += 1

    while time.monotonic() < until:
        for _ in range(min(20, connections - len(open_ones))):
            begin()
        for number, event in poll.poll(0.05):
            connection, pieces, rest = open_ones[number]
            try:
                if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and not connection.recv(65536):
                    raise ConnectionError
                if event & select.EPOLLOUT:
                    data = rest or next(pieces, b"")
                    sent = connection.send(data) if data else 0
                    open_ones[number] = connection, pieces, data[sent:]
                    if not data:
                        poll.modify(connection, select.EPOLLIN)
            except BlockingIOError:
                pass
            except OSError:
                poll.unregister(connection)
                connection.close()
                del open_ones[number]
    return begun


if __name__ == "__main__":
    print(hammer(sys.argv[1], float(sys.argv[2]), sys.argv[3:] or list(WAYS)))
