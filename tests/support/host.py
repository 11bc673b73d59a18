"""A host in the test's own process: real files, real agent processes, a platform in memory."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from host.channels.memory import MemoryChannel
from host.operations.approvals import following_decisions
from host.operations.commands import carrying_out
from host.operations.containers import changing_containers
from host.operations.delegate import following_delegations
from host.operations.registry import call
from host.operations.requests import answering
from host.operations.schedules import scheduling
from host.routing.event import Event, Receipt
from host.runtime.process import ProcessRuntime
from host.runtime.protocol import Runtime
from host.services import Services
from host.sessions.attachments import Attachment
from host.sessions.folder import Owner, make_data_folder
from host.settings import Settings
from shared_schema.clock import Clock, SystemClock
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import SessionLayout
from shared_schema.rows import Address
from tests.support.registry import open_central
from tests.support.wait import until

QUICK = {
    "runtime": "process",
    "retry_seconds": 0.05,
    "stop_seconds": 2.0,
    "delivery_retry_seconds": 0.05,
    "heartbeat_seconds": 0.2,
    "title_seconds": 3600.0,  # agents are asked for titles only by the tests about them
}
AGENT = "assistant"
CHAT = "memory:one"


class Host:
    """A running host with one agent group (`assistant`, provider `scripted`) wired to the chat `memory:one`."""

    def __init__(self, services: Services, channel: MemoryChannel) -> None:
        self.services = services
        self.channel = channel

    async def do(self, operation: str, **parameters: Any) -> Any:
        """One operation, as the command line does it."""
        return await call(self.services, operation, parameters)

    async def say(
        self,
        text: str,
        *,
        chat: str = "one",
        thread: str | None = None,
        sender: str | None = "ann",
        mention: bool = False,
        files: Sequence[Attachment] = (),
        message_id: str | None = None,
    ) -> Receipt:
        """Somebody writes in a chat."""
        return await self.channel.receive(
            Event(
                address=Address("memory", chat, thread),
                platform_message_id=message_id or new_id(Prefix.MESSAGE),
                text=text,
                sender_id=sender,
                sender_name=sender,
                is_mention=mention,
                attachments=tuple(files),
            )
        )

    async def ask(self, text: str, **options: Any) -> str:
        """Somebody writes, and the text of the next thing that is sent."""
        count = len(self.channel.sent)
        await self.say(text, **options)
        return (await self.channel.wait_for(count + 1))[count].text

    def texts(self) -> list[str]:
        """What was sent so far."""
        return [message.text for message in self.channel.sent]

    async def session(self, session_id: str | None = None) -> SessionLayout:
        """The folder of a session; of the only one without an id."""
        listed = await self.do("session.list")
        found = [s for s in listed if session_id in (None, s["id"])]
        assert len(found) == 1, f"{len(found)} sessions"
        return SessionLayout(Path(found[0]["path"]))

    async def outcome(self, message_id: str) -> str:
        """The outcome of a message, once it has one."""

        async def final() -> str | None:
            row = await self.services.central.read(
                lambda c: c.execute("SELECT status FROM ingest WHERE message_id = ?", (message_id,)).fetchone()
            )
            return None if row["status"] == "pending" else str(row["status"])

        return str(await until(final, f"{message_id} has an outcome"))

    async def central(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Rows of central.db."""
        rows = await self.services.central.read(lambda c: c.execute(statement, parameters).fetchall())
        return [dict(row) for row in rows]

    async def settled(self) -> None:
        """Wait until nothing is open, and every session's file has been told."""

        async def is_settled() -> bool:
            rows = await self.central(
                """
                SELECT (SELECT count(*) FROM ingest WHERE status = 'pending')
                     + (SELECT count(*) FROM ingest WHERE recorded = 0 AND session_id IS NOT NULL)
                     + (SELECT count(*) FROM deliveries WHERE status IN ('pending', 'sending') OR recorded = 0) AS n
                """
            )
            return bool(rows[0]["n"] == 0)

        await until(is_settled, "everything has its outcome", 60)


def rows(path: Path, statement: str, *parameters: object) -> list[dict[str, Any]]:
    """Rows of a session's file, read as a person would with sqlite3."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(statement, parameters)]


@asynccontextmanager
async def running(
    data: Path,
    *,
    runtime: Runtime | None = None,
    make_runtime: Callable[[str], Runtime] | None = None,
    command: Sequence[str] | None = None,
    channel: MemoryChannel | None = None,
    clock: Clock | None = None,
    provider: str = "scripted",
    chat: str = CHAT,
    others: Sequence[Runtime] = (),
    unsettled: bool = False,
    stop_agents: bool = True,
    **settings: Any,
) -> AsyncIterator[Host]:
    """A host on a data folder until the block ends.

    `others` are runtimes of earlier hosts; `unsettled` begins as if one had died before it settled its last runs.
    `chat` is the address of the chat that is wired to it. `command` runs in place of the agent, in a process;
    `make_runtime` makes a runtime for an install id.
    """
    umask = os.umask(0o077)
    chosen = Settings(data=data, **(QUICK | settings))
    make_data_folder(chosen.layout, Owner.of_agents(10001))
    clock = clock or SystemClock()
    central = open_central(chosen.layout.central, clock)
    platform = channel or MemoryChannel()
    if runtime is None and make_runtime is not None:
        runtime = make_runtime(central.install_id)
    services = Services(
        chosen,
        clock,
        central,
        runtime or ProcessRuntime(central.install_id, chosen.layout.run, command=command),
        "the settings say so",
        lambda central, clock: [platform],
        others=others,
    )
    host = Host(services, platform)
    try:
        if not await host.do("agent_group.list"):
            await host.do("agent_group.add", name=AGENT, provider=provider)
            await host.do("messaging_group.add", address=chat, is_group=True, unknown_sender="public")
            await host.do("wiring.add", messaging_group=chat, agent_group=AGENT)
        if unsettled:
            await central.write(lambda c: c.execute("UPDATE sessions SET run_settled = 0"))
        await services.start()
        async with (
            carrying_out(services),
            answering(services),
            following_decisions(services),
            following_delegations(services),
            changing_containers(services),
            scheduling(services),
        ):
            yield host
    finally:
        await services.close(stop_agents=stop_agents)
        os.umask(umask)
