"""Agents on several machines: where they run, and what becomes of a session whose machine is not heard of any more."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from host.runtime.protocol import RuntimeUnavailable
from shared_schema.errors import Conflict
from tests.support.host import AGENT, Host, rows, running
from tests.support.nodes import Machines
from tests.support.wait import until

ONE_TWO: dict[str, dict[str, str]] = {"one": {}, "two": {"gpu": "yes"}}
QUICK = {"silent_seconds": 30.0, "heartbeat_seconds": 0.2, "poll_seconds": 0.2, "start_seconds": 60.0}
SOON_TOLD = QUICK | {"silent_seconds": 4.0}


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """Two machines, whose agents are ended after the test, frozen ones too."""
    made = Machines(tmp_path / "machines", ONE_TWO)
    yield made
    for process in psutil.process_iter(["environ", "cmdline"]):
        if str(tmp_path) in (process.info["environ"] or {}).get("DUMBWAITER_SESSION", ""):
            process.kill()


async def node_of_agent(host: Host) -> str:
    (agent,) = (await host.do("status"))["agents"]
    return str(agent["node"])


async def frozen(host: Host, machines: Machines) -> tuple[str, int]:
    """Cut off the machine of the only agent, and stop it as a machine that hangs does; its name and the process."""
    node = await node_of_agent(host)
    (handle,) = (await machines.agents())[node]
    machines.cut_off(node)
    os.kill(int(handle.reference), signal.SIGSTOP)
    return node, int(handle.reference)


async def test_status_session_and_ledger_say_where_an_agent_runs(tmp_path: Path, machines: Machines) -> None:
    async with running(tmp_path / "data", make_runtime=machines.runtime, **QUICK) as host:
        assert await host.ask("hello") == "scripted: hello"
        (session,) = await host.do("session.list")
        shown = await host.do("session.show", session=session["id"])
        assert shown["node"] == await node_of_agent(host) == "one"
        assert shown["run_number"] == 1
        listed = {each["name"]: each for each in await host.do("node.list")}
        assert (listed["one"]["state"], listed["one"]["agents"]) == ("ready", 1)
        assert (listed["two"]["state"], listed["two"]["agents"]) == ("ready", 0)


async def test_labels_say_where_an_agent_group_runs(tmp_path: Path, machines: Machines) -> None:
    async with running(tmp_path / "data", make_runtime=machines.runtime, **QUICK) as host:
        await host.do("agent_group.set", name=AGENT, node_labels={"gpu": "yes"})
        assert await host.ask("hello") == "scripted: hello"
        assert await node_of_agent(host) == "two"
        await host.do("agent_group.set", name=AGENT, node_labels={"gpu": "two"})
        assert "no node has gpu=two" in await host.ask("hello again")


async def test_labels_can_be_set_while_the_node_of_an_agent_is_away(tmp_path: Path, machines: Machines) -> None:
    async with running(tmp_path / "data", make_runtime=machines.runtime, **QUICK) as host:
        assert await host.ask("hello") == "scripted: hello"
        machines.cut_off("one")
        shown = await host.do("agent_group.set", name=AGENT, node_labels={"gpu": "yes"})
        assert shown["node_labels"] == {"gpu": "yes"}
        machines.bring_back("one")
        await host.do("agent_group.set", name=AGENT, node_labels={"gpu": "yes", "fast": "no"})
        await host.do("agent_group.set", name=AGENT, node_labels={"gpu": "yes"})
        assert await host.ask("and now?") == "scripted: and now?"
        assert await node_of_agent(host) == "two"


async def test_a_drained_node_takes_no_more_agents(tmp_path: Path, machines: Machines) -> None:
    async with running(tmp_path / "data", make_runtime=machines.runtime, **QUICK) as host:
        await host.do("node.drain", name="one")
        assert await host.ask("hello") == "scripted: hello"
        assert await node_of_agent(host) == "two"
        await host.do("node.add", name="one", address="unix:///one")


@pytest.mark.parametrize("name", ["one", "three"])
async def test_a_node_that_cannot_be_added_leaves_all_as_it_was(tmp_path: Path, machines: Machines, name: str) -> None:
    async with running(tmp_path / "data", make_runtime=machines.runtime, **QUICK) as host:
        before = await host.do("node.list")
        with pytest.raises(RuntimeUnavailable, match="does not answer"):
            await host.do("node.add", name=name, address=f"unix://{tmp_path}/nothing", labels={"gpu": "two"})
        assert await host.do("node.list") == before
        assert await host.ask("hello") == "scripted: hello"


async def test_every_engine_of_a_node_is_closed_with_the_host(tmp_path: Path, machines: Machines) -> None:
    async with running(tmp_path / "data", make_runtime=machines.runtime, **QUICK) as host:
        first = machines.machines["one"]
        await host.do("node.add", name="one", address="unix:///elsewhere")
        second = machines.machines["one"]
        await host.do("node.add", name="one", labels={"gpu": "yes"})
        assert machines.machines["one"] is second is not first, "one address, one engine"
        assert await host.ask("hello") == "scripted: hello"
    assert (first.is_closed, second.is_closed) == (True, True)


async def test_a_session_waits_for_a_node_that_is_away_and_people_are_told_once(
    tmp_path: Path, machines: Machines
) -> None:
    async with running(tmp_path / "data", make_runtime=machines.runtime, **SOON_TOLD) as host:
        assert await host.ask("hello") == "scripted: hello"
        node, process = await frozen(host, machines)
        notice = await host.ask("are you there?")  # told after longer than silence lasts: nothing was stopped for it
        assert notice.startswith(f"This message waits: the machine {node}")
        status = await host.do("status")
        assert [each["node"] for each in status["waits_for_nodes"]] == [node]
        assert {each["name"]: each["state"] for each in status["nodes"]} == {"one": "away", "two": "ready"}
        await host.say("and now?")
        os.kill(process, signal.SIGCONT)
        machines.bring_back(node)
        await host.settled()
        assert host.texts() == [
            "scripted: hello",
            notice,
            "scripted: are you there?",
            "scripted: and now?",
        ]

        async def waits_no_more() -> bool:
            return not (await host.do("status"))["waits_for_nodes"]

        await until(waits_no_more, "the node is heard of again")
        assert (await host.central("SELECT run_number FROM sessions")) == [{"run_number": 1}]


async def test_a_lost_node_is_the_admins_word_and_nothing_of_its_agent_is_taken(
    tmp_path: Path, machines: Machines
) -> None:
    async with running(tmp_path / "data", make_runtime=machines.runtime, **QUICK) as host:
        assert await host.ask("hello") == "scripted: hello"
        with pytest.raises(Conflict, match="the node one answers, so it is not lost"):
            await host.do("node.lost", name="one")
        await host.say("stream 80 0.05")
        await until(lambda: "stream 1" in host.texts(), "it streams")
        node, process = await frozen(host, machines)
        waits = "scripted: go on"
        await host.say("go on")
        done = await host.do("node.lost", name=node)
        assert done == {"name": node, "sessions": 1}

        async def moved() -> bool:
            agents = (await host.do("status"))["agents"]
            return [agent["node"] for agent in agents] == ["two"]

        await until(moved, "another agent runs")
        layout = await host.session()
        os.kill(process, signal.SIGCONT)  # it is back, and its machine is not heard of
        await until(
            lambda: not psutil.pid_exists(process) or is_over(process), "it has seen that another run took over"
        )
        await until(lambda: waits in host.texts(), "the session goes on")
        await host.settled()
        by_run = rows(layout.outbound, "SELECT run, count(*) AS n FROM turns WHERE status = 'completed' GROUP BY run")
        assert {row["run"] for row in by_run} == {1, 2}
        sent = [text for text in host.texts() if text.startswith("stream")]
        assert len(sent) == len(set(sent)) or sent.count("stream 1") == 2  # the turn was run again, in the second run
        refused = await host.central("SELECT reason FROM refusals")
        assert refused == []
        kept = [path.name for path in layout.folder.iterdir() if path.name.startswith(".out-lost-")]
        assert len(kept) == 1


def is_over(process: int) -> bool:
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_restarted_host_waits_for_a_node_and_takes_its_agent_over_when_it_is_back(
    tmp_path: Path, machines: Machines
) -> None:
    data = tmp_path / "data"
    async with running(data, make_runtime=machines.runtime, stop_agents=False, **QUICK) as host:
        assert await host.ask("hello") == "scripted: hello"
        node = await node_of_agent(host)
    machines.cut_off(node)
    async with running(data, make_runtime=machines.runtime, **QUICK) as host:
        before = await machines.agents()
        receipt = await host.say("hello again")
        del receipt

        async def waits() -> Any:
            return (await host.do("status"))["waits_for_nodes"]

        await until(waits, "the session waits for its node")
        assert {name: len(found) for name, found in (await machines.agents()).items()} == {
            name: len(found) for name, found in before.items()
        }
        machines.bring_back(node)
        await host.settled()
        assert host.texts()[-1] == "scripted: hello again"
        assert await node_of_agent(host) == node
        assert (await host.central("SELECT run_number FROM sessions")) == [{"run_number": 1}]


async def test_a_data_folder_that_is_shared_is_served_without_events_and_times(tmp_path: Path) -> None:
    async with running(tmp_path / "data", shared=True, max_retries=0, **QUICK) as host:
        for number in range(3):
            assert await host.ask(f"message {number}") == f"scripted: message {number}"
        assert "could not be answered" in await host.ask("kill-mid-commit")  # the journal is found by a listing
        assert await host.ask("after it") == "scripted: after it"
        await host.settled()
