"""What the gateway adds: to the first byte, to the time a lot of bytes take, and to each event of 200 streams.

Service, gateway and forwarder are processes of their own, as they are in use; the floor is the same service, asked
without them.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from pydantic import SecretStr

from container_agent.forwarder import Forwarder
from host.gateway.grant import Grant
from host.gateway.policy import parse_rule
from host.gateway.server import Gateway
from host.gateway.upstreams import Upstream, UpstreamKind
from host.sessions.folder import Owner
from shared_schema.clock import SystemClock
from shared_schema.layout import SessionLayout
from tests.bench.figure import Figure, above, at_most, percentile
from tests.bench.workbench import Workbench

ROUNDS = 300
MEGABYTES = 200
STREAMS = 200
EVENTS = 40
BETWEEN_EVENTS = 0.05
_MS = 1000
_MB = 1_000_000
_PIECE = base64.b64encode(Random(1).randbytes(192 * 1024))
"""What is large in an answer: a picture, say. (One letter over and over is the worst text to look for a key in.)"""
_KEY = "sk-proj-" + base64.urlsafe_b64encode(Random(2).randbytes(48)).decode()
_SESSION = "ses_0000000000000001"


@dataclass(frozen=True, slots=True)
class Way:
    """How the service is reached: straight, or through a Unix socket or a port of ours."""

    name: str
    address: str | tuple[str, int]
    prefix: str = ""

    def connect(self) -> socket.socket:
        """A connection, for reading with a time limit."""
        connected = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        connected.settimeout(60)
        connected.connect(self.address)
        return connected

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.address, str):
            return await asyncio.open_unix_connection(self.address)
        return await asyncio.open_connection(*self.address)

    def request(self, path: str) -> bytes:
        """A request of the service."""
        return f"GET {self.prefix}{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def measure(bench: Workbench) -> Iterator[Figure]:
    """Directly, through the gateway, and through forwarder and gateway."""
    with _ways(bench.new_folder("gateway")) as (port, direct, *through):
        first = {way.name: percentile(taken, 50) * _MS for way, taken in _first_bytes([direct, *through]).items()}
        for way in through:
            yield Figure(
                f"first byte of a model call, {way.name}, p50", first[way.name], "ms", first[direct.name], above(2)
            )
        bare = _seconds_for(direct, b"") * _MS * 100 / MEGABYTES
        for way in through:
            for name, connect in (("a model call", b""), ("a tunnel", _connect_to(port))):
                taken = _seconds_for(direct if connect else way, connect, way) * _MS * 100 / MEGABYTES
                rate = f"{100 / taken * _MS:.0f} MB/s; directly {100 / bare * _MS:.0f} MB/s"
                yield Figure(f"100 MB by {name}, {way.name}", taken, "ms", bare, at_most(500), note=rate)
        delays = {way.name: asyncio.run(_streams(way)) for way in (direct, *through)}
        for way in through:
            for part in (50, 99):
                yield Figure(
                    f"an event of {STREAMS} streams, {way.name}, p{part}",
                    percentile(delays[way.name], part) * _MS,
                    "ms",
                    percentile(delays[direct.name], part) * _MS,
                )


def _first_bytes(ways: list[Way]) -> dict[Way, list[float]]:
    """Seconds from before the connection until the first byte of the answer's body, in turns."""
    taken: dict[Way, list[float]] = {way: [] for way in ways}
    for number in range(ROUNDS + 20):
        for way in ways:
            began = time.perf_counter()
            with closing(way.connect()) as connected:
                connected.sendall(way.request("/bytes/1"))
                answer = b""
                while b"\r\n\r\n" not in answer or answer.endswith(b"\r\n\r\n"):
                    answer += connected.recv(4096)
            if number >= 20:
                taken[way].append(time.perf_counter() - began)
    return taken


def _connect_to(port: int) -> bytes:
    return f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def _seconds_for(asked: Way, connect: bytes, through: Way | None = None) -> float:
    """Seconds for all the megabytes, the best of three; after `connect` when that is given."""
    return min(_once(asked, connect, through or asked) for _ in range(3))


def _once(asked: Way, connect: bytes, through: Way) -> float:
    buffer = bytearray(1024 * 1024)
    with closing(through.connect()) as connected:
        if connect:
            connected.sendall(connect)
            assert connected.recv(4096).startswith(b"HTTP/1.1 200")
        began, total = time.perf_counter(), 0
        connected.sendall(asked.request(f"/bytes/{MEGABYTES * _MB}"))
        while total < MEGABYTES * _MB:
            count = connected.recv_into(buffer)
            assert count, "the answer broke off"
            total += count
        return time.perf_counter() - began


async def _streams(way: Way) -> list[float]:
    """Seconds between the moment at which an event was sent and the one at which it was read, of all streams."""
    delays: list[float] = []

    async def follow() -> None:
        reader, writer = await way.open()
        writer.write(way.request("/events"))
        count = 0
        async for line in reader:
            if line.startswith(b"data: "):
                delays.append(time.monotonic() - float(line[6:]))
                count += 1
                if count == EVENTS:
                    break
        assert count == EVENTS, "a stream broke off"
        writer.close()

    async with asyncio.timeout(120):
        await asyncio.gather(*(follow() for _ in range(STREAMS)))
    return delays


@contextmanager
def _ways(folder: Path) -> Iterator[tuple[int, Way, Way, Way]]:
    """The service's port and the ways to it, until the block ends."""
    layout = SessionLayout(folder)
    layout.folder.mkdir(parents=True)
    with ExitStack() as stack:
        port = stack.enter_context(_process("service", layout, 0))
        stack.enter_context(_process("gateway", layout, port))
        forwarder = stack.enter_context(_process("forwarder", layout, port))
        yield (
            port,
            Way("directly", ("127.0.0.1", port)),
            Way("through the gateway", str(layout.gateway), "/upstream/openai"),
            Way("through forwarder and gateway", ("127.0.0.1", forwarder), "/upstream/openai"),
        )


@contextmanager
def _process(role: str, layout: SessionLayout, port: int) -> Iterator[int]:
    """One of the parts in a process of its own, once it is ready; the port it has, if any."""
    command = [sys.executable, "-m", "tests.bench.gateway", role, str(layout.folder), str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


class _Service(asyncio.Protocol):
    """Answers `/bytes/<count>` with so many bytes, and `/events` with events that say when they were sent."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.transport.set_write_buffer_limits(high=1024 * 1024)
        self.head = b""
        self.left = 0
        self.full = False

    def data_received(self, data: bytes) -> None:
        self.head += data
        if not self.head.endswith(b"\r\n\r\n"):
            return
        path, self.head = self.head.split(b" ", 2)[1], b""
        if path == b"/events":
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            self.event(EVENTS)
            return
        self.left = int(path.rpartition(b"/")[2])
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.left)
        self.pour()

    def event(self, left: int) -> None:
        if left == 0:
            self.transport.close()
            return
        self.transport.write(b"data: %f\n\n" % time.monotonic())
        asyncio.get_running_loop().call_later(BETWEEN_EVENTS, self.event, left - 1)

    def pour(self) -> None:
        while self.left and not self.full and not self.transport.is_closing():
            piece = _PIECE[: self.left]
            self.left -= len(piece)
            self.transport.write(piece)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.pour()


async def _serve(role: str, layout: SessionLayout, port: int) -> None:
    """One of the parts, until killed."""
    if role == "service":
        server = await asyncio.get_running_loop().create_server(_Service, "127.0.0.1", 0, backlog=STREAMS)
        print(server.sockets[0].getsockname()[1], flush=True)
    elif role == "gateway":
        upstream = Upstream("openai", f"http://127.0.0.1:{port}", SecretStr(_KEY), UpstreamKind.OPENAI, opens_all=True)
        grant = Grant("agr_1", (parse_rule(f"127.0.0.1:{port}"),), {"openai": upstream})

        async def grant_of(session_id: str) -> Grant:
            return grant

        gateway = Gateway(
            grant_of,
            Owner.of_agents(10001),
            SystemClock(),
            refused=lambda *told: None,
            used=lambda *told: None,
            descriptors=4096,
        )
        await gateway.open(_SESSION, layout)
        print(0, flush=True)
    else:
        print(await Forwarder(layout).port(), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], SessionLayout(Path(sys.argv[2])), int(sys.argv[3])))
