"""What a new data folder gets."""

from __future__ import annotations

import asyncio
from pathlib import Path

from host.operations import first_run
from tests.support.host import AGENT, CHAT, running


async def test_two_who_set_up_at_once_make_one_agent_with_its_terminal(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        assert await first_run.set_up(host.services) == {"made": False}
        await host.do("agent_group.remove", name=AGENT)
        await host.do("messaging_group.remove", address=CHAT)
        done = await asyncio.gather(*(first_run.set_up(host.services) for _ in range(3)))
        assert sorted(each["made"] for each in done) == [False, False, True]
        (wiring,) = await host.do("wiring.list")
        assert (wiring["messaging_group"], wiring["agent_group"], wiring["engage"]) == (
            first_run.TERMINAL,
            first_run.FIRST_AGENT_GROUP,
            "all",
        )
