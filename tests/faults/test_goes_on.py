"""What the host does again and again goes on after its ledger could not be used for a moment."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from host.background import in_background
from host.central import host_messages
from host.central.agent_groups import AgentGroupChanged
from host.central.database import Transaction
from host.http_api.hook_sender import sending_hooks
from host.operations.nodes import watching_nodes
from host.operations.prune import clearing_away
from host.runtime.fakes import FakeRuntime
from host.supervision.strays import keep_ending_strays
from shared_schema.clock import SystemClock
from tests.access.test_containers import Images, history, install, with_images
from tests.delivery.test_delegate import states, task
from tests.integration.test_nodes import ONE_TWO
from tests.integration.test_nodes import QUICK as QUICK_NODES
from tests.platforms.webhook_receiver import receiving
from tests.support.chats import session_of
from tests.support.host import Host, rows, running
from tests.support.ledger import refusing, without_table
from tests.support.nodes import Machines
from tests.support.registry import open_central
from tests.support.transaction import at
from tests.support.wait import until
from tests.unit.registry import add_agent, add_session
from tests.unit.test_strays import run as begin


class Lines:
    """The lines of the host's log."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    async def says(self, line: str) -> None:
        await until(lambda: line in [record.message for record in self._caplog.records], f"'{line}' is logged", 20)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Lines:
    return Lines(caplog)


def ledger(host: Host) -> Path:
    return host.services.settings.layout.central


async def test_hooks_that_could_not_be_looked_for_are_looked_for_afterwards(tmp_path: Path, log: Lines) -> None:
    async with running(tmp_path) as host, sending_hooks(host.services), receiving("") as receiver:
        with without_table(ledger(host), "hooks"):
            host.services.hooks.changed.set()
            await log.says("hooks wait")
        receiver.secret = (await host.do("hook.add", name="ops", url=receiver.url))["secret"]
        await host.ask("hello")
        await receiver.got(1)


async def test_a_hook_whose_post_could_not_be_noted_posts_what_follows(tmp_path: Path, log: Lines) -> None:
    async with running(tmp_path) as host, sending_hooks(host.services), receiving("") as receiver:
        receiver.secret = (await host.do("hook.add", name="ops", url=receiver.url))["secret"]
        with refusing(ledger(host), "UPDATE ON hooks"):
            await host.ask("hello")
            await log.says("a hook waits")
        await host.ask("and now?")  # which is news

        async def is_posted() -> bool:
            newest = (await host.do("events"))[-1]["number"]
            return bool((await host.central("SELECT position FROM hooks"))[0]["position"] >= newest)

        await until(is_posted, "all events are posted", 20)


async def test_agents_that_could_not_be_told_of_a_change_are_told_afterwards(tmp_path: Path, log: Lines) -> None:
    async with running(tmp_path) as host:
        await host.do("agent_group.add", name="other", provider="scripted")
        await host.do("messaging_group.add", address="memory:two", is_group=True, unknown_sender="public")
        await host.do("wiring.add", messaging_group="memory:two", agent_group="other")
        await host.ask("hello")
        await host.ask("hello", chat="two")
        await host.settled()

        def change(tx: Transaction) -> None:
            tx.execute("UPDATE messaging_groups SET name = 'Kitchen'")
            for row in tx.execute("SELECT id FROM agent_groups").fetchall():
                tx.add(AgentGroupChanged(row["id"]))

        with without_table(ledger(host), "sessions"):
            await host.services.central.write(change)
            await log.says("what follows from an approval waits")
        inboxes = [Path(each["path"]) / "inbound.db" for each in await host.do("session.list")]
        assert len(inboxes) == 2
        for inbox in inboxes:
            await until(
                lambda inbox=inbox: "Kitchen" in str(rows(inbox, "SELECT value FROM session_context")), "it is told", 20
            )


async def test_messages_of_the_host_that_could_not_be_looked_for_are_sent(tmp_path: Path, log: Lines) -> None:
    async with running(tmp_path) as host:
        now = host.services.central.now()

        def say(connection: sqlite3.Connection) -> None:  # without a word to the host that there is something new
            host_messages.say(at(connection, now), "once", "memory", "one", "Something has happened.")

        with without_table(ledger(host), "host_messages", then=say):
            host.services.messenger.kick()
            await log.says("messages of the host wait")
        await until(lambda: host.texts() == ["Something has happened."], "it is sent", 20)


async def test_a_delegated_task_whose_end_cannot_be_noted_holds_up_no_other(tmp_path: Path, log: Lines) -> None:
    async with running(tmp_path, max_agents=6) as host:
        with refusing(ledger(host), "UPDATE ON delegations", "NEW.rowid = 1"):
            await host.say("\n".join([task("reply 1 walrus"), task("reply 1 tea")]))
            await log.says("a delegated task cannot be looked after")

            async def is_the_other_done() -> bool:
                return await states(host) in (["running", "done"], ["done", "running"])

            await until(is_the_other_done, "the other task is done", 30)
        await until(lambda: _are(host, ["done", "done"]), "both are done", 30)


async def test_delegated_tasks_that_could_not_be_looked_for_are_done_afterwards(tmp_path: Path, log: Lines) -> None:
    async with running(tmp_path, max_agents=6) as host:
        with without_table(ledger(host), "delegations"):
            host.services.delegated.set()
            await log.says("delegated tasks cannot be looked after")
        await host.say(task("reply 1 walrus"))
        await until(lambda: _are(host, ["done"]), "it is done", 30)


async def _are(host: Host, expected: list[str]) -> bool:
    return await states(host) == expected


async def test_containers_are_changed_after_changes_could_not_be_looked_for(tmp_path: Path, log: Lines) -> None:
    async with with_images(tmp_path, Images()) as host:
        with without_table(ledger(host), "container_changes"):
            host.services.dispatcher.container_waits.set()
            await log.says("changes of containers wait")
        await host.say(install(apt=["ffmpeg"]))

        async def is_built() -> bool:
            return [state for _, state, *_ in await history(host)] == ["ready"]

        await until(is_built, "it is built, and the container replaced", 30)


async def test_a_container_that_could_not_be_replaced_is_replaced_afterwards(tmp_path: Path, log: Lines) -> None:
    async with with_images(tmp_path, Images()) as host:
        with refusing(ledger(host), "UPDATE ON container_changes", "NEW.state = 'ready'"):
            await host.say(install(apt=["ffmpeg"]))
            await log.says("containers cannot be replaced")
            assert [state for _, state, *_ in await history(host)] == ["made"]
        host.services.dispatcher.container_waits.set()  # as half a minute later

        async def is_ready() -> bool:
            return [state for _, state, *_ in await history(host)] == ["ready"]

        await until(is_ready, "it is replaced", 30)


async def test_old_sessions_are_cleared_away_after_that_could_not_be_done(tmp_path: Path, log: Lines) -> None:
    async with running(tmp_path, deleted_hours=0.0) as host:
        await host.ask("hello")
        session = await session_of(host, "one")
        async with clearing_away(host.services, seconds=0.05):
            with without_table(ledger(host), "rate_limits"):
                await log.says("what is old cannot be cleared away")
            await host.do("session.delete", session=session)

            async def is_removed() -> bool:
                return not await host.central("SELECT 1 FROM sessions WHERE id = ?", session)

            await until(is_removed, "the deleted session is removed", 20)


async def test_an_agent_on_a_node_that_was_lost_is_ended_though_the_ledger_could_not_be_asked(
    tmp_path: Path, log: Lines
) -> None:
    machines = Machines(tmp_path / "machines", ONE_TWO)
    async with running(tmp_path / "data", make_runtime=machines.runtime, **QUICK_NODES) as host:
        await host.ask("hello")
        machines.cut_off("one")
        await host.do("node.lost", name="one")

        async def has_moved() -> bool:
            return [agent["node"] for agent in (await host.do("status"))["agents"]] != ["one"]

        await until(has_moved, "it is over, as far as is known", 20)
        async with watching_nodes(host.services, seconds=0.05):
            with without_table(ledger(host), "sessions"):
                machines.bring_back("one")
                await log.says("a node cannot be looked at")

            async def is_ended() -> bool:
                return not (await machines.agents())["one"]

            await until(is_ended, "its agent is ended", 20)


async def test_an_agent_that_was_given_up_is_ended_though_the_ledger_could_not_be_asked(
    tmp_path: Path, log: Lines
) -> None:
    runtime = FakeRuntime("i")
    central = open_central(tmp_path / "central.db", SystemClock())
    try:
        session = await central.write(lambda tx: add_session(tx.connection, add_agent(tx.connection)))
        await begin(central, runtime, session, "run_1")
        await begin(central, runtime, session, "run_2")
        async with in_background(keep_ending_strays(central, runtime, seconds=0.05), name="strays"):
            with without_table(tmp_path / "central.db", "sessions"):
                await log.says("agents cannot be looked for")

            async def is_ended() -> bool:
                return [handle.run_id for handle in await runtime.list()] == ["run_2"]

            await until(is_ended, "the one that was given up is ended", 20)
    finally:
        central.close()
