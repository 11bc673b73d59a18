"""Eight hostile sessions hammer the gateway in every way at once: an honest session's round trips stay what they are at
a host that nobody attacks, and the host's memory stays what it was.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from shared_schema.layout import SessionLayout
from tests.gateway.crowd import WAYS
from tests.hostile.neighbour import ROOT, SETTINGS, Chats, Neighbour, elsewhere
from tests.support.chats import add_chats, session_of
from tests.support.host import Host, running
from tests.support.wait import until

HOSTILE = 8
SECONDS = 20.0  # long enough that one stall of the machine is no verdict
SLOWER, FLOOR_MS = 2.0, 10.0
LONGEST_MS = 1500.0
MOST_MEMORY = 100e6


def p95(milliseconds: Sequence[float]) -> float:
    return statistics.quantiles(milliseconds, n=20)[-1]


async def _swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A service that hears whatever comes and never answers."""
    with suppress(ConnectionError):
        while await reader.read(65536):
            pass
    writer.close()


async def _sockets(host: Host) -> list[Path]:
    """The gateways of the hostile sessions, whose agents live."""
    chats = [f"hostile-{number}" for number in range(HOSTILE)]
    await add_chats(host, *chats, agent_group="hostile")
    await asyncio.gather(*(host.say("hello", chat=chat) for chat in chats))
    paths = []
    for chat in chats:
        shown = await host.do(
            "session.show", session=await until(lambda chat=chat: session_of(host, chat), "a session")
        )
        paths.append(SessionLayout(Path(shown["path"])).gateway)
        await until(paths[-1].exists, "its gateway is open")
    return paths


@pytest.mark.full  # it judges times, which says something only on a machine that does nothing else
@pytest.mark.parametrize(
    "ways",
    [tuple(WAYS), *(pytest.param((way,), marks=pytest.mark.full) for way in WAYS)],
    ids=["together", *WAYS],
)
async def test_a_crowd_at_the_gateway_delays_no_message_and_takes_no_memory(
    tmp_path: Path, ways: Sequence[str]
) -> None:
    channel = Chats()
    service = await asyncio.start_server(_swallow, "127.0.0.1", 0)
    port = service.sockets[0].getsockname()[1]
    upstreams = {"openai": {"url": f"http://127.0.0.1:{port}", "key": "sk-host"}}
    async with (
        elsewhere(tmp_path / "elsewhere", None) as quiet,
        running(tmp_path / "data", channel=channel, upstreams=upstreams, **SETTINGS) as host,
    ):
        await host.do("agent_group.add", name="hostile", provider="scripted")
        paths = await _sockets(host)
        neighbour = Neighbour(host, channel)
        here_before: list[float] = []
        there_before: list[float] = []
        for _ in range(20):  # with all those agents and before the attack: what they cost by being there is none of it
            here_before.append(await neighbour.trip())
            there_before.append(await quiet.trip())
        resident = psutil.Process().memory_info().rss
        crowd = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.gateway.crowd", str(path), str(SECONDS), *ways,
                cwd=ROOT, stdout=asyncio.subprocess.PIPE,
            )
            for path in paths
        ]  # fmt: skip
        here: list[float] = []
        there: list[float] = []
        peak = resident
        until_then = time.monotonic() + SECONDS + 1
        while time.monotonic() < until_then or len(here) < 60:
            here.append(await neighbour.trip())
            there.append(await quiet.trip())
            peak = max(peak, psutil.Process().memory_info().rss)
        begun = [int((await process.communicate())[0] or b"0") for process in crowd]
    service.close()
    print(
        f"{'+'.join(ways)}: {len(here)} trips, {sum(begun)} connections; here p50 {statistics.median(here):.1f} "
        f"p95 {p95(here):.1f} longest {max(here):.1f}, elsewhere p50 {statistics.median(there):.1f} "
        f"p95 {p95(there):.1f} longest {max(there):.1f} ms, memory +{(peak - resident) / 1e6:.0f} MB"
    )
    usual = max(1.0, statistics.median(here_before) / statistics.median(there_before))
    print(f"before: here p50 {statistics.median(here_before):.1f}, elsewhere p50 {statistics.median(there_before):.1f}")
    assert min(begun) > 0
    assert p95(here) <= SLOWER * usual * p95(there) + FLOOR_MS
    assert max(here) <= max(LONGEST_MS, SLOWER * usual * max(there))
    assert peak - resident < MOST_MEMORY
