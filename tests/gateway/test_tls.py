"""The way out of an agent on another machine: a relay beside it, TLS, a token for each run, and the same gateway."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from container_agent.forwarder import Forwarder
from host.gateway.certificate import certificate_of
from host.gateway.server import Transport
from host.gateway.tls_front import TlsFront
from shared_schema.errors import DumbwaiterError, FileTrouble
from shared_schema.layout import SessionLayout
from tests.gateway.world import World, world
from tests.support.wait import until

ROOT = Path(__file__).resolve().parents[2]
RUN = "run_0123456789abcdef"


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[TlsFront]:
    made = TlsFront("127.0.0.1:0", certificate_of(tmp_path / "gateway.pem"))
    await made.start()
    yield made
    await made.aclose()


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, Transport.UNIX) as made:
        yield made


@asynccontextmanager
async def relay(front: TlsFront, folder: Path, run_id: str = RUN) -> AsyncIterator[Path]:
    """A real relay for a run, as beside an agent's container; its socket."""
    way = front.way_out(run_id)
    path = folder / "way.sock"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "DUMBWAITER_RELAY_SOCKET": str(path),
        "DUMBWAITER_RELAY_ADDRESS": way.address,
        "DUMBWAITER_RELAY_CERTIFICATE": way.certificate,
        "DUMBWAITER_RELAY_TOKEN": way.token,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "container_agent.relay", env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
        yield path
    finally:
        process.terminate()
        await process.wait()


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: str) -> bytes:
    """The answer to one request, to its end."""
    writer.write(request.replace("\n", "\r\n").encode())
    await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return answer


async def connected(front: TlsFront, first: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection over TLS that begins with these bytes."""
    host, _, port = front.address.rpartition(":")
    context = ssl.create_default_context(cadata=front.way_out(RUN).certificate)
    context.check_hostname = False
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    writer.write(first)
    return reader, writer


async def test_a_call_goes_through_the_relay_to_the_service_and_back(
    here: World, front: TlsFront, tmp_path: Path
) -> None:
    front.admit(here.session_id, RUN, here.layout)
    async with relay(front, tmp_path) as path:
        forwarder = Forwarder(SessionLayout(tmp_path / "nothing", way_out=path))
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", await forwarder.port())
            request = "GET /dumbwaiter/alive HTTP/1.1\nHost: gateway\nConnection: close\n\n"
            answer = await asked(reader, writer, request)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert await forwarder.mark()
        finally:
            await forwarder.aclose()


async def test_policy_is_that_of_the_socket(here: World, front: TlsFront, tmp_path: Path) -> None:
    front.admit(here.session_id, RUN, here.layout)
    request = "CONNECT forbidden.example:443 HTTP/1.1\nHost: forbidden.example:443\n\n"
    async with relay(front, tmp_path) as path:
        over_tls = await asked(*await asyncio.open_unix_connection(path), request)
    direct = await asked(*await here.connect(), request)
    assert over_tls.startswith(b"HTTP/1.1 403 ")
    assert over_tls == direct
    assert len(here.refused) >= 1


@pytest.mark.parametrize(
    "first",
    [b"", b"\n", b"x" * 64 + b"\n", b"\xff\x00\n", b"GET / HTTP/1.1\r\n\r\n", b"a" * 200_000],
)
async def test_without_a_token_nothing_is_answered(here: World, front: TlsFront, first: bytes) -> None:
    front.admit(here.session_id, RUN, here.layout)
    reader, writer = await connected(front, first)
    if not first:
        writer.close()
    heard = b""
    with suppress(ConnectionError):
        heard = await asyncio.wait_for(reader.read(), 60)
    assert heard == b""
    writer.close()


async def test_an_earlier_run_is_let_in_no_more(here: World, front: TlsFront, tmp_path: Path) -> None:
    front.admit(here.session_id, RUN, here.layout)
    alive = "GET /dumbwaiter/alive HTTP/1.1\nHost: gateway\nConnection: close\n\n"
    async with relay(front, tmp_path) as path:
        assert await asked(*await asyncio.open_unix_connection(path), alive)
        front.admit(here.session_id, "run_fedcba9876543210", here.layout)
        assert await asked(*await asyncio.open_unix_connection(path), alive) == b""
    front.forget(here.session_id)
    reader, writer = await connected(front, front.way_out("run_fedcba9876543210").token.encode() + b"\n")
    assert await asked(reader, writer, alive) == b""


async def test_connections_of_a_session_end_with_it(here: World, front: TlsFront) -> None:
    front.admit(here.session_id, RUN, here.layout)
    reader, writer = await connected(front, front.way_out(RUN).token.encode() + b"\nGET ")
    await writer.drain()
    await until(lambda: here.session_id in front._tasks.values(), "the token was heard")
    front.forget(here.session_id)
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()


async def silent(front: TlsFront) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that does not even begin with its handshake."""
    host, _, port = front.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def is_sent_away_at_once(reader: asyncio.StreamReader) -> bool:
    """And not only when its time to show a token is over, after ten seconds."""
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("shakes_hands", [True, False])
async def test_strangers_are_few_and_keep_no_other_out(here: World, front: TlsFront, shakes_hands: bool) -> None:
    """Of eighty that say nothing the oldest are sent away at once; who has a token is answered meanwhile."""
    front.admit(here.session_id, RUN, here.layout)
    strangers = [await (connected(front, b"") if shakes_hands else silent(front)) for _ in range(80)]
    assert all(await asyncio.gather(*(is_sent_away_at_once(reader) for reader, _ in strangers[:16])))
    reader, writer = await connected(front, front.way_out(RUN).token.encode() + b"\n")
    alive = "GET /dumbwaiter/alive HTTP/1.1\nHost: gateway\nConnection: close\n\n"
    assert (await asked(reader, writer, alive)).startswith(b"HTTP/1.1 200 ")
    assert len(front._tasks) <= 64
    for _, writer in strangers:
        writer.transport.abort()


async def test_who_takes_nothing_is_given_up(here: World, tmp_path: Path) -> None:
    """The gateway has given it up by then; what waits here would keep two descriptors until the session ends."""
    front = TlsFront("127.0.0.1:0", certificate_of(tmp_path / "gateway.pem"), silent_seconds=0.5)
    await front.start()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(bytes(65536))
                await writer.drain()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    here.allow(f"127.0.0.1:{port}")
    front.admit(here.session_id, RUN, here.layout)
    token = front.way_out(RUN).token
    reader, writer = await connected(front, f"{token}\nCONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    try:
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).startswith(b"HTTP/1.1 200 ")
        await until(lambda: not front._tasks, "it was given up")
    finally:
        writer.transport.abort()
        await front.aclose()
        server.close()


def test_the_certificate_is_made_once_and_is_the_hosts_alone(tmp_path: Path) -> None:
    first, again = certificate_of(tmp_path / "gateway.pem"), certificate_of(tmp_path / "gateway.pem")
    assert stat.S_IMODE((tmp_path / "gateway.pem").stat().st_mode) == 0o600
    assert "PRIVATE" not in first.certificate
    assert (first.token(RUN), first.certificate) == (again.token(RUN), again.certificate)
    assert first.token(RUN) != first.token("run_fedcba9876543210")
    assert first.token(RUN) != certificate_of(tmp_path / "other.pem").token(RUN)
    (tmp_path / "gateway.pem").write_text("nothing")
    with pytest.raises(FileTrouble, match="no key and certificate"):
        certificate_of(tmp_path / "gateway.pem")


async def test_an_address_that_cannot_be_listened_on_is_named(front: TlsFront, tmp_path: Path) -> None:
    with pytest.raises(DumbwaiterError, match="cannot listen on"):
        await TlsFront(front.address, certificate_of(tmp_path / "gateway.pem")).start()
