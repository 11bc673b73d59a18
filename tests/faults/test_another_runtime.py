"""A session never has two agents, also when the last host ran them somewhere else."""

from __future__ import annotations

from pathlib import Path

from host.runtime.absent import AbsentRuntime
from host.runtime.protocol import AgentHandle, RuntimeUnavailable
from tests.support.host import running
from tests.support.wait import until


class SilentRuntime(AbsentRuntime):
    """An engine that does not answer, until it does; then it knows no agents."""

    answers = False
    asked = 0

    async def list(self) -> list[AgentHandle]:
        self.asked += 1
        if not self.answers:
            raise RuntimeUnavailable("the engine does not answer")
        return []


async def test_a_session_waits_until_the_runtime_of_its_last_agent_says_that_it_is_gone(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        asked = (await host.say("one")).accepted[0]
        await host.channel.wait_for(1)
        await host.settled()
    other = SilentRuntime()
    async with running(tmp_path, others=[other], unsettled=True) as host:
        await host.say("two")
        await until(lambda: other.asked >= 2, "the other runtime was asked")
        assert host.services.supervisor.agents == {}
        assert host.texts() == []
        other.answers = True
        assert (await host.channel.wait_for(1))[0].text == "scripted: two"
        assert set(host.services.supervisor.agents) == {asked.session_id}
