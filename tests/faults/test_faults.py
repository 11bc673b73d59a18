"""A fault of a file or of the system that nobody foresaw: one session's, bounded, told with its cause (FAILURES 51)."""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from host.operations.doctor import check_sessions
from host.operations.partner import TERMINAL
from host.operations.registry import stream
from host.runtime.process import ProcessRuntime
from host.runtime.protocol import AgentHandle, AgentSpecification
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import DataLayout, SessionLayout
from shared_schema.rows import encode
from tests.support.chats import add_chats, answers, ask_in, folder_of
from tests.support.folders import exchange
from tests.support.host import AGENT, Host, running
from tests.support.wait import until

NOT_RECONCILED = "a session could not be reconciled"
QUICK = {"fault_seconds": 0.5, "max_retries": 0, "retry_seconds": 0.0}


def inbound_is_a_folder(layout: SessionLayout) -> None:
    (layout.folder / "away").mkdir()
    exchange(layout.inbound, layout.folder / "away")


def folder_is_a_file(layout: SessionLayout) -> None:
    layout.folder.with_name("away").write_bytes(b"")
    exchange(layout.folder, layout.folder.with_name("away"))


def inbox_is_a_file(layout: SessionLayout) -> None:
    (layout.folder / "file").write_bytes(b"")
    exchange(layout.inbox, layout.folder / "file")
    layout.inbound.rename(layout.folder / "away")


def mend_inbound(layout: SessionLayout) -> None:
    exchange(layout.inbound, layout.folder / "away")


def mend_folder(layout: SessionLayout) -> None:
    exchange(layout.folder, layout.folder.with_name("away"))


def mend_inbox(layout: SessionLayout) -> None:
    exchange(layout.inbox, layout.folder / "file")


Break = Callable[[SessionLayout], None]
FAULTS: dict[str, tuple[Break, Break, str]] = {
    "inbound.db is a folder": (inbound_is_a_folder, mend_inbound, "Is a directory (inbound.db)"),
    "the session's folder is a file": (folder_is_a_file, mend_folder, "a file is where a folder should be"),
    "a folder in it is a file": (inbox_is_a_file, mend_inbox, "a file is where a folder should be (inbox)"),
}


async def faults(host: Host) -> list[str]:
    return [fault["what"] for fault in (await host.do("status"))["faults"]]


async def is_at_rest(host: Host) -> bool:
    return not await host.central("SELECT 1 FROM sessions WHERE run_settled = 0")


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_told_with_its_cause_after_a_bound_logged_once_and_over_by_itself(
    tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    breaks, mends, cause = FAULTS[fault]
    async with running(tmp_path, idle_seconds=0.05, poll_seconds=0.05, **QUICK) as host:
        await add_chats(host, "two")
        assert await ask_in(host, "one", "before") == "scripted: before"
        layout = await folder_of(host, "one")
        await until(lambda: is_at_rest(host), "the idle agent is gone")
        with caplog.at_level(logging.INFO, logger="host"):
            breaks(layout)
            for number in (1, 2):  # a fault that lasts is not waited for again
                await host.say(f"number {number}", chat="one")
                told = (await answers(host, "one", 1 + number))[number]
                assert told.startswith("This message could not be answered: the session's files cannot be used: ")
                assert cause in told
            assert await ask_in(host, "two", "beside it") == "scripted: beside it"
            (what,) = await faults(host)
            assert cause in what
            status = await host.do("status")
            (check,) = check_sessions(lambda: {"faults": status["faults"], "repairs": []})
            assert check.ok is False
            assert cause in check.what
            mends(layout)
            await until(lambda: not host.services.supervisor.faults.all(), "the fault is over, with nobody's help", 40)
            assert await ask_in(host, "one", "after") == "scripted: after"
        logged = [vars(record)["error"] for record in caplog.records if record.getMessage() == NOT_RECONCILED]
        assert logged
        assert len(logged) == len(set(logged)), "each cause is logged once, however often it is met"
        assert [record.getMessage() for record in caplog.records].count("a session can be reconciled again") == 1


async def test_a_slot_is_free_when_the_agent_is_dead_whatever_becomes_of_its_burial(tmp_path: Path) -> None:
    """The last words cannot be read, because somebody holds the file; another session gets the only slot."""
    async with running(tmp_path, max_agents=1, poll_seconds=0.05, idle_seconds=60.0, **QUICK) as host:
        await add_chats(host, "two")
        assert await ask_in(host, "one", "before") == "scripted: before"
        layout = await folder_of(host, "one")
        (agent,) = host.services.supervisor.agents.values()
        layout.reading.rename(layout.folder / "away")
        layout.reading.write_bytes(b"")  # so that the host cannot even link what it is to read
        await host.services.runtime.stop(agent.handle, 0.0)
        assert await ask_in(host, "two", "the slot is mine") == "scripted: the slot is mine"
        assert await host.services.runtime.list() == [
            each.handle for each in host.services.supervisor.agents.values()
        ], "what was left of the dead one is cleared away"
        layout.reading.unlink()
        (layout.folder / "away").rename(layout.reading)
        assert await ask_in(host, "one", "after") == "scripted: after"


async def test_a_dead_agents_file_is_read_to_its_end_though_nothing_waits(tmp_path: Path) -> None:
    """It holds more than is read in one go, and no message of a person's is open that would bring another look."""
    async with running(tmp_path, poll_seconds=0.05, **QUICK) as host:
        assert await host.ask("before") == "scripted: before"
        await host.settled()
        layout = await host.session()
    with closing(sqlite3.connect(layout.outbound)) as connection, connection:
        insert = (
            "INSERT INTO messages_out (id, generation, timestamp, kind, content) SELECT ?, generation, timestamp, ?, ?"
        )
        of_last = f"{insert} FROM messages_out ORDER BY seq DESC LIMIT 1"
        for number in range(3000):
            connection.execute(of_last, (f"msg_{number:016x}", "system", "{}"))  # refused, one by one: that takes time
        connection.execute(of_last, (new_id(Prefix.MESSAGE), "chat", encode({"text": "the last words"})))
    async with running(tmp_path, unsettled=True, poll_seconds=0.05, **QUICK) as host:
        await until(lambda: is_at_rest(host), "the dead agent is buried", 60)
        assert [message.text for message in await host.channel.wait_for(1)] == ["the last words"]


class CannotStart(ProcessRuntime):
    """The system gives it no more files."""

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        raise OSError(errno.EMFILE, "Too many open files")


async def test_an_agent_that_the_system_does_not_let_start_is_told_as_that_and_not_as_a_fault_of_a_folder(
    tmp_path: Path,
) -> None:
    def runtime(install_id: str) -> ProcessRuntime:
        return CannotStart(install_id, DataLayout(tmp_path).run)

    async with running(tmp_path, make_runtime=runtime, **QUICK) as host:
        await host.say("hello")
        (told,) = await answers(host, "one", 1)
        assert "the agent cannot be started: Too many open files" in told
        await host.do("messaging_group.add", address=TERMINAL)
        await host.do("wiring.add", messaging_group=TERMINAL, agent_group=AGENT)
        *_, done = [entry async for entry in stream(host.services, "chat", {"text": "hello"})]
        assert (done["status"], done["more"]) == ("failed", None), "an agent that never ran printed nothing to look at"
