"""Over MooseFS, a distributed file system: it is judged, and conversations outlive a server that hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from host.operations.mount_measure import beside, measure
from host.operations.mount_verdict import MountVerdict, verdict_of
from tests.cluster.elsewhere import ElsewhereRuntime
from tests.cluster.moosefs import MooseFS, a_moosefs, lacks
from tests.support.host import Host, running

pytestmark = pytest.mark.full

SETTINGS = {"shared": True, "poll_seconds": 1.0, "heartbeat_seconds": 0.5, "silent_seconds": 60.0}
HANGS_SECONDS = 4.0  # what is written meanwhile must wait: shorter than the lease, which has a test of its own


@pytest.fixture(scope="module")
def moosefs() -> Iterator[MooseFS]:
    if (why := lacks()) is not None:
        pytest.skip(why)
    with a_moosefs(2) as found:
        yield found


@asynccontextmanager
async def conversing(moosefs: MooseFS, name: str) -> AsyncIterator[Host]:
    """A host whose data lies on one mount, and whose agents see it through the other."""
    here, there = moosefs.mounts
    data = here / name
    data.mkdir()

    def make(install_id: str) -> ElsewhereRuntime:
        return ElsewhereRuntime(install_id, data, there / name)

    async with running(data, make_runtime=make, **SETTINGS) as host:
        yield host


def test_it_is_coherent(moosefs: MooseFS) -> None:
    folder, there = (mount / "measured" for mount in moosefs.mounts)
    folder.mkdir()
    measured = measure(folder, beside(there))
    assert verdict_of(measured)[0] is MountVerdict.COHERENT
    assert measured.locks


async def test_conversations_go_over_it(moosefs: MooseFS) -> None:
    async with conversing(moosefs, "conversations") as host:
        for number in range(20):
            assert await host.ask(f"message {number}") == f"scripted: message {number}"
        assert await host.ask("reply 3 word")
        await host.settled()
        await host.say("kill-mid-commit")
        await host.settled()
        assert await host.ask("after it") == "scripted: after it"


@pytest.mark.parametrize("how", ["hanging", "without_server"])
async def test_what_is_said_while_the_server_hangs_or_is_gone_is_answered_once_it_is_back(
    moosefs: MooseFS, how: str
) -> None:
    async with conversing(moosefs, how) as host:
        assert await host.ask("before") == "scripted: before"
        await host.say("think 1")
        with getattr(moosefs, how)():
            saying = [asyncio.create_task(host.say(f"message {number}")) for number in range(3)]
            done, _ = await asyncio.wait(saying, timeout=HANGS_SECONDS)
            assert done == set(), "nothing is accepted before it is on the disk"
        for said in await asyncio.gather(*saying):
            assert await host.outcome(said.accepted[0].message_id) == "completed"
        await host.settled()
        assert await host.ask("after") == "scripted: after"
        texts = host.texts()
        expected = {
            "scripted: before",
            "thought for 1 s",
            "scripted: after",
            *(f"scripted: message {n}" for n in range(3)),
        }
        assert set(texts) == expected
        assert len(texts) == len(expected), "nothing is said twice"
