"""Where agents connect: sockets in deep folders, what a dead host left, files and who may read them."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from container_agent.__main__ import LoadedProviders
from container_agent.forwarder import Forwarder, environment
from host.gateway.server import Transport
from shared_schema.clock import SystemClock
from shared_schema.errors import DumbwaiterError, NotFound
from shared_schema.layout import SessionLayout
from tests.gateway.world import World, world
from tests.support.wait import until


async def test_a_data_folder_may_lie_deeper_than_a_sockets_path_can_be(tmp_path: Path, transport: Transport) -> None:
    async with world(tmp_path / ("deep" * 20) / ("deeper" * 20), transport) as here:
        assert len(os.fsencode(here.layout.gateway)) > 200
        assert (await here.message())["status"] == 200


async def test_what_an_earlier_host_left_is_replaced_and_what_is_closed_is_gone(here: World) -> None:
    await here.gateway.close(here.session_id)
    assert list(here.layout.folder.iterdir()) == []
    here.layout.gateway.touch()  # of a host that was killed
    here.layout.gateway_port.write_text("{}")
    if here.transport is Transport.UNIX:
        here.layout.gateway_port.unlink()

    await here.gateway.open(here.session_id, here.layout)
    await here.gateway.open(here.session_id, here.layout)

    assert (await here.message())["status"] == 200


async def test_only_the_agents_group_can_connect(here: World) -> None:
    name = "gateway.sock" if here.transport is Transport.UNIX else "gateway.json"
    status = (here.layout.folder / name).stat()

    assert stat.S_IMODE(status.st_mode) == (0o660 if here.transport is Transport.UNIX else 0o640)
    assert (status.st_uid, status.st_gid) == ((0, 10001) if os.geteuid() == 0 else (os.geteuid(), os.getegid()))


async def test_closing_ends_what_is_under_way(here: World) -> None:
    reader, writer = await here.connect()
    writer.write(b"GET /upstream")
    await until(lambda: here.gateway._sessions[here.session_id].wires, "it is connected")

    await here.gateway.close(here.session_id)

    async with asyncio.timeout(2):
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("ticks", range(5))
async def test_what_is_closed_while_it_opens_is_closed(here: World, ticks: int) -> None:
    loop, socket_is_made = asyncio.get_running_loop(), asyncio.Event()

    class Disk(ThreadPoolExecutor):
        """Says when something was done."""

        def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            doing = super().submit(work, *args, **kwargs)
            doing.add_done_callback(lambda _: loop.call_soon_threadsafe(socket_is_made.set))
            return doing

    await here.gateway.close(here.session_id)
    before = len(os.listdir("/dev/fd"))
    loop.set_default_executor(Disk())
    opening = asyncio.create_task(here.gateway.open(here.session_id, here.layout))
    await socket_is_made.wait()
    for _ in range(ticks):
        await asyncio.sleep(0)

    await here.gateway.close(here.session_id)
    await opening

    assert list(here.layout.folder.iterdir()) == []
    assert len(os.listdir("/dev/fd")) == before


async def test_what_is_opened_while_it_closes_is_open(here: World) -> None:
    disk_goes_on = threading.Event()

    class SlowDisk(ThreadPoolExecutor):
        """The first that is to be done takes long."""

        is_slow = True

        def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            is_slow, self.is_slow = self.is_slow, False

            def do() -> Any:
                assert not is_slow or disk_goes_on.wait(20)
                return work(*args, **kwargs)

            return super().submit(do)

    asyncio.get_running_loop().set_default_executor(SlowDisk())
    closing = asyncio.create_task(here.gateway.close(here.session_id))
    await until(lambda: not here.gateway._sessions, "it closes")
    opening = asyncio.create_task(here.gateway.open(here.session_id, here.layout))
    await asyncio.wait({opening}, timeout=0.3)  # it may wait, or be quicker
    disk_goes_on.set()
    await closing
    await opening

    assert (await here.message())["status"] == 200


async def test_a_folder_that_is_gone_is_an_error_with_its_place_and_no_trouble_at_the_end(here: World) -> None:
    gone = SessionLayout(here.layout.folder / "gone")
    with pytest.raises(DumbwaiterError, match="gone"):
        await here.gateway.open("other", gone)
    here.layout.folder.rename(here.layout.folder.with_name("renamed"))
    await here.gateway.close(here.session_id)


async def test_without_a_gateway_the_forwarder_says_so_in_a_sentence(tmp_path: Path) -> None:
    forwarder = Forwarder(SessionLayout(tmp_path))
    with pytest.raises(NotFound, match="no gateway, and so no way out"):
        await forwarder.port()
    await forwarder.aclose()


async def test_an_agent_that_came_too_early_finds_the_way_out_later(here: World) -> None:
    await here.gateway.close(here.session_id)
    loaded = LoadedProviders(here.layout, SystemClock(), {}, lambda value: None, lambda value: None)
    await loaded.open_way_out()
    assert "HTTPS_PROXY" not in loaded.environment

    await here.gateway.open(here.session_id, here.layout)
    await asyncio.gather(loaded.open_way_out(), loaded.open_way_out())
    url = f"{loaded.environment['ANTHROPIC_BASE_URL']}/v1/messages"
    async with aiohttp.ClientSession() as session, session.post(url, json={}) as response:
        assert response.status == 200

    before = dict(loaded.environment)
    await loaded.open_way_out()
    assert loaded.environment == before
    await loaded.close()


async def test_the_port_stays_the_same_and_a_restarted_host_is_found_again(here: World) -> None:
    port = await here.forwarder.port()
    await here.gateway.close(here.session_id)
    asking = asyncio.create_task(here.message())
    await until(lambda: here.forwarder._connections, "it was asked while the host was away")
    await here.gateway.open(here.session_id, here.layout)

    assert (await asking)["status"] == 200
    assert await here.forwarder.port() == port


def test_the_environment_leads_every_sdk_to_the_port_and_has_no_key() -> None:
    variables = environment(4711)

    assert variables["HTTPS_PROXY"] == variables["http_proxy"] == "http://127.0.0.1:4711"
    assert variables["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:4711/upstream/anthropic"
    assert variables["OLLAMA_BASE_URL"] == "http://127.0.0.1:4711/upstream/ollama/v1"
    assert {value for name, value in variables.items() if name.endswith("_KEY")} == {"none"}


async def test_the_forwarder_keeps_little_of_what_nobody_reads(here: World) -> None:
    stop, sent = asyncio.Event(), 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            while not stop.is_set():
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
        except ConnectionResetError:
            pass

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    here.allow(f"127.0.0.1:{port}")
    _, writer = await asyncio.open_connection("127.0.0.1", await here.forwarder.port(), limit=1024)
    writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    seen = [-1]

    def rests() -> bool:
        seen.append(sent)
        return len(seen) > 30 and seen[-1] == seen[-30] > 0

    await until(rests, "nothing moves any more")
    assert sent < 32 * 1024**2  # what the kernel keeps of five sockets, and a little
    stop.set()
    writer.close()
    server.close()


async def test_the_forwarder_knows_one_gateway_from_the_next_and_when_there_is_none(here: World) -> None:
    await here.forwarder.port()
    first = await here.forwarder.mark()
    assert first
    assert await here.forwarder.mark() == first
    await here.gateway.close(here.session_id)
    assert await here.forwarder.mark() is None
    assert await here.forwarder.back(0.1) is None
    returning = asyncio.create_task(here.forwarder.back(20))
    await here.gateway.open(here.session_id, here.layout)
    assert await returning == first  # the host had not died, only its socket
    assert here.refused == []
