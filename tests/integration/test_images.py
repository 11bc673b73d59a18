"""Which image an agent group's containers have, and what happens to running agents when that changes."""

from __future__ import annotations

from pathlib import Path

from host.runtime.protocol import AgentHandle, AgentSpecification
from tests.support.host import AGENT, running
from tests.support.runtimes import CountingRuntime


class ImageNoting(CountingRuntime):
    """Notes for which image each agent was started."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.images: list[str] = []

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        self.images.append(specification.image)
        return await super().start(specification)


async def test_the_image_is_the_variant_that_the_provider_needs_and_its_change_starts_agents_anew(
    tmp_path: Path,
) -> None:
    runtime = ImageNoting(tmp_path)
    async with running(tmp_path, runtime=runtime) as host:
        await host.ask("hello")
        await host.do("agent_group.set", name=AGENT, provider="model", model="anthropic:x")
        await host.do("agent_group.set", name=AGENT, provider="scripted")
        assert await host.ask("again") == "scripted: again"
        await host.do("agent_group.set", name=AGENT, model="of no matter")
        assert await host.ask("and again") == "scripted: and again"
        await host.do("agent_group.set", name=AGENT, image="mine:1", provider="model", model="openai:x")
        await host.say("nobody answers")
        await host.settled()
    assert runtime.images == [
        "dumbwaiter-agent:0.1.0",
        "dumbwaiter-agent:0.1.0",
        "mine:1",
    ]
