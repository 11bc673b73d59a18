"""An agent in the test's own process, on a bare session: the real loop, and a provider object of the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

from container_agent.loop import Loop
from container_agent.outbox import Outbox
from container_agent.providers.protocol import Provider
from container_agent.wake import Waker
from shared_schema.clock import SystemClock
from shared_schema.rows import encode
from tests.agent.session import BareSession
from tests.support.wait import until

_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one message: the row of its turn, the texts that went out for it, and why it failed."""

    turn: dict[str, Any]
    replies: list[str]
    error: str | None


class Agent:
    """Says things in a session and waits for what comes of them."""

    def __init__(self, session: BareSession) -> None:
        self.session = session

    async def ask(self, text: str, **columns: object) -> Outcome:
        """Somebody says something; what came of it."""
        return await self.outcome(self.say(text, **columns))

    def say(self, text: str, *, files: dict[str, bytes] | None = None, **columns: object) -> str:
        """Somebody says something, with files; the id of the message."""
        if not files:
            return self.session.say(text, **columns)
        names = [{"name": name, "path": f"inbox/f/{name}", "size": len(data)} for name, data in files.items()]
        folder = self.session.layout.inbox / "f"
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return self.session.say(text, content=encode({"text": text, "files": names}), **columns)

    async def outcome(self, message_id: str) -> Outcome:
        """What came of a message, once it is over."""

        def ended() -> list[dict[str, Any]]:
            return self.session.out(
                "SELECT * FROM processing_ack WHERE message_id = ? AND status <> 'processing'", (message_id,)
            )

        ack = (await until(ended, "the turn is over"))[0]
        turn = self.session.out("SELECT * FROM turns WHERE id = ?", (ack["turn_id"],))[0]
        sent = self.session.out(
            "SELECT content ->> 'text' AS text FROM messages_out WHERE turn_id = ? ORDER BY seq", (turn["id"],)
        )
        return Outcome(turn, [row["text"] for row in sent], ack["error"])

    async def stop(self, message_id: str) -> Outcome:
        """The host takes a message back; what came of it."""
        self.session.write("UPDATE messages_in SET status = 'cancelled' WHERE id = ?", (message_id,))
        return await self.outcome(message_id)

    def steps(self) -> list[dict[str, Any]]:
        """The transcript."""
        return self.session.out("SELECT * FROM steps ORDER BY seq")


@asynccontextmanager
async def living(
    session: BareSession, provider: Provider, *, model: str = "", **context: object
) -> AsyncIterator[Agent]:
    """A running agent whose every turn goes to this provider, until the block ends."""
    session.context(provider=provider.name, model=model, **context)
    with (
        closing(Outbox(session.layout, SystemClock())) as outbox,
        closing(Waker(session.layout.inbound, poll_seconds=_POLL_SECONDS, use_events=True)) as waker,
    ):
        loop = Loop(
            session.layout,
            session.workspace,
            outbox=outbox,
            waker=waker,
            load=lambda name: provider,
            clock=SystemClock(),
            stop_seconds=0,
        )
        running = asyncio.create_task(loop.run())
        try:
            yield Agent(session)
        finally:
            loop.stop()
            await running
