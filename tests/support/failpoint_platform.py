"""A host in a process of its own whose platform takes no idempotency key and whose agents can be killed at a point.

What the platform got stands in `<data>.sent`, one JSON object a line; how agents ended, in `<data>.ended`, their exit
codes. The clock is fast, so that a dead agent is noticed soon.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from host.api.server import ApiServer
from host.channels.memory import MemoryChannel
from host.channels.protocol import Outgoing
from host.runtime.process import ProcessRuntime
from host.runtime.protocol import AgentHandle
from shared_schema.layout import DataLayout
from tests.support.clocks import FastClock
from tests.support.host import running

_AGENT = [sys.executable, "-m", "tests.support.failpoint", "agent"]


def main() -> None:
    """Run until SIGTERM."""
    asyncio.run(_run(Path(sys.argv[1])))


async def _run(data: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with running(
        data,
        make_runtime=lambda install_id: _WitnessRuntime(install_id, data),
        channel=MemoryChannel(idempotent=False, on_sent=lambda message: _note(data, message)),
        clock=FastClock(),
        poll_seconds=0.05,
        stop_seconds=0.2,
        start_seconds=600.0,
        silent_seconds=400.0,
        idle_seconds=6000.0,
    ) as host:
        api = ApiServer(host.services)
        try:
            await api.start()
            await stop.wait()
        finally:
            await api.close()


class _WitnessRuntime(ProcessRuntime):
    """Notes how each agent ended."""

    def __init__(self, install_id: str, data: Path) -> None:
        super().__init__(install_id, DataLayout(data).run, command=_AGENT)
        self._ended = data.with_name(f"{data.name}.ended")

    async def remove(self, handle: AgentHandle) -> None:
        status = await self.poll(handle)
        with self._ended.open("a") as file:
            file.write(f"{status.exit_code}\n")
        await super().remove(handle)


def _note(data: Path, message: Outgoing) -> None:
    got = {"chat": message.address.platform_id, "in_reply_to": message.in_reply_to, "text": message.text}
    with data.with_name(f"{data.name}.sent").open("a") as file:
        file.write(json.dumps(got) + "\n")
