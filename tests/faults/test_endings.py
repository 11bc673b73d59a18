"""FAILURES 20, 34: what is still on its way when a conversation is reset or deleted, and what comes at that moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from host.channels.memory import MemoryChannel
from host.channels.protocol import Outgoing
from host.runtime.protocol import AgentHandle, RuntimeUnavailable
from shared_schema.errors import DumbwaiterError, NotFound
from tests.support.chats import is_working_on, session_of
from tests.support.host import rows, running
from tests.support.runtimes import CountingRuntime
from tests.support.script import script
from tests.support.wait import until

ROUNDS = 25


@dataclass
class HeldChannel(MemoryChannel):
    """A platform that is being called until it is let go."""

    called: bool = False
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def deliver(self, message: Outgoing) -> str | None:
        self.called = True
        await self.let_go.wait()
        return await super().deliver(message)


# An agent that says what it has to say, whoever has told it to stop.
LATE = """
def answer(message, text):
    if text != "slowly":
        return reply(message, "ok: " + text)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    began = generation()
    open(OUT + "/working", "w").close()
    time.sleep(0.5)
    reply(message, "late: " + text, generation=began)
    sys.exit(0)
"""


async def test_failure_20_what_a_turn_says_after_a_reset_is_kept_and_not_sent(tmp_path: Path) -> None:
    async with running(tmp_path, command=script(tmp_path, LATE)) as host:
        asked = (await host.say("slowly")).accepted[0]
        layout = await host.session()
        await until(lambda: (layout.out / "working").exists(), "the agent works")
        fresh = await host.do("session.new", messaging_group="memory:one")
        assert fresh["id"] != asked.session_id
        assert await host.outcome(asked.message_id) == "cancelled"
        assert await host.ask("hello") == "ok: hello"
        await host.settled()
        assert host.texts() == ["ok: hello"]
        said = rows(layout.outbound, "SELECT content FROM messages_out")
        assert said == [{"content": '{"text": "late: slowly"}'}]
        kept = await host.central("SELECT status FROM deliveries WHERE session_id = ?", asked.session_id)
        assert kept == [{"status": "suppressed"}]
        assert rows(layout.inbound, "SELECT status FROM messages_in") == [{"status": "cancelled"}]


async def test_failure_20_what_waits_for_a_platform_when_the_conversation_is_reset_is_not_sent(tmp_path: Path) -> None:
    channel = MemoryChannel(is_down=True)
    async with running(tmp_path, channel=channel, command=script(tmp_path)) as host:
        asked = (await host.say("old")).accepted[0]
        assert await host.outcome(asked.message_id) == "completed"
        await until(lambda: channel.attempts, "sending was tried")
        await host.do("session.new", messaging_group="memory:one")
        channel.is_down = False
        assert await host.ask("hello") == "ok: hello"
        await host.settled()
        assert host.texts() == ["ok: hello"]


@pytest.mark.parametrize("idempotent", [True, False], ids=["to a platform that takes a key", "to one that does not"])
@pytest.mark.parametrize("arrives", [True, False], ids=["it arrives", "it does not"])
async def test_failure_20_what_is_being_sent_when_the_conversation_is_reset_is_not_sent_again(
    tmp_path: Path, idempotent: bool, arrives: bool
) -> None:
    channel = HeldChannel(idempotent=idempotent, is_down=not arrives)
    async with running(tmp_path, channel=channel, command=script(tmp_path)) as host:
        asked = (await host.say("old")).accepted[0]
        await until(lambda: channel.called, "it is being sent")
        await host.do("session.new", messaging_group="memory:one")
        channel.let_go.set()
        await until(lambda: channel.attempts, "it was tried")
        channel.is_down = False
        assert await host.ask("hello") == "ok: hello"
        await host.settled()
        assert host.texts() == (["ok: old", "ok: hello"] if arrives else ["ok: hello"])
        recorded = await host.central("SELECT status FROM deliveries WHERE session_id = ?", asked.session_id)
        assert recorded == [{"status": "delivered" if arrives else "suppressed"}]


async def test_failure_20_what_a_turn_says_after_a_delete_is_removed_with_the_session(tmp_path: Path) -> None:
    runtime = CountingRuntime(tmp_path)
    async with running(tmp_path, runtime=runtime) as host:
        asked = (await host.say("think 0.5")).accepted[0]
        layout = await host.session()
        await is_working_on(layout, asked.message_id)
        await host.do("session.delete", session=asked.session_id, for_good=True)
        assert await host.outcome(asked.message_id) == "cancelled"
        assert await runtime.list() == []
        assert list(layout.folder.parent.iterdir()) == []
        assert await host.do("session.list") == []
        assert await host.central("SELECT 1 FROM deliveries UNION ALL SELECT 1 FROM turns") == []
        assert await host.ask("hello") == "scripted: hello"
        assert await session_of(host, "one") != asked.session_id
        await host.settled()
        assert host.texts() == ["scripted: hello"]


async def test_failure_20_a_reset_while_the_agent_streams_sends_nothing_afterwards(tmp_path: Path) -> None:
    lines = """
def answer(message, text):
    if text != "talk":
        return reply(message, "ok: " + text)
    while True:
        beat()
        write(row(message, "on and on"))
"""
    async with running(tmp_path, command=script(tmp_path, lines), stop_seconds=0.3) as host:
        await host.say("talk")
        await host.channel.wait_for(3)
        await host.do("session.new", messaging_group="memory:one")
        sent = len(host.channel.sent)
        assert await host.ask("hello") == "ok: hello"
        await host.settled()
        assert host.texts()[sent:] == ["ok: hello"]


async def test_failure_34_deletes_that_race_with_messages_leave_one_outcome_each_and_nothing_behind(
    tmp_path: Path,
) -> None:
    runtime = CountingRuntime(tmp_path, command=script(tmp_path))
    accepted: list[str] = []
    async with running(tmp_path, runtime=runtime, stop_seconds=1) as host:

        async def say(text: str) -> None:
            accepted.append((await host.say(text)).accepted[0].message_id)

        async def delete() -> None:
            for session in await host.do("session.list"):
                try:
                    await host.do("session.delete", session=session["id"], for_good=True)
                except NotFound:  # the other delete was faster
                    continue

        for number in range(ROUNDS):
            work = [say(f"{number}.{part}") for part in range(3)]
            await asyncio.gather(work[0], delete(), work[1], delete(), work[2])
        last = (await host.say("last")).accepted[0]
        assert await host.outcome(last.message_id) == "completed"
        await host.settled()

        assert len(accepted) == len(set(accepted)) == 3 * ROUNDS
        ledger = {row["message_id"]: row["status"] for row in await host.central("SELECT * FROM ingest")}
        assert set(ledger) == {*accepted, last.message_id}
        assert set(ledger.values()) <= {"completed", "cancelled"}
        assert max(Counter(host.texts()).values()) == 1
        assert {message.in_reply_to for message in host.channel.sent} <= {
            message_id for message_id, status in ledger.items() if status == "completed"
        }

        await delete()
        assert await runtime.list() == []
        assert [path for path in (tmp_path / "sessions").glob("*/*")] == []
        for handle in runtime.started:
            assert not Path(f"/proc/{handle.reference}").exists()
        assert runtime.most_at_once == 1


class DeafEngine(CountingRuntime):
    """An engine that cannot be reached when something is to be stopped."""

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        raise RuntimeUnavailable("the engine did not answer in time")


async def test_failure_34_a_delete_that_was_interrupted_is_finished_by_the_next_host(tmp_path: Path) -> None:
    command = script(tmp_path)
    async with running(tmp_path, runtime=DeafEngine(tmp_path, command=command), stop_agents=False) as host:
        await host.ask("hello")
        session_id = await session_of(host, "one")
        with pytest.raises(DumbwaiterError, match="did not answer"):
            await host.do("session.delete", session=session_id, for_good=True)
    runtime = CountingRuntime(tmp_path, command=command)
    async with running(tmp_path, runtime=runtime) as host:
        assert await runtime.living() == []
        assert await host.do("session.list") == []
        assert [path for path in (tmp_path / "sessions").glob("*/*")] == []
