"""An agent whose start was given up, and that came up all the same, is ended while the host runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from host.central import runs
from host.central.database import Central, Transaction
from host.central.sessions import Session
from host.runtime.fakes import FakeRuntime
from host.runtime.protocol import AgentSpecification
from host.supervision.strays import end_strays
from shared_schema.clock import SystemClock
from shared_schema.layout import SessionLayout
from tests.unit.registry import add_agent, add_session


@pytest.fixture
def central(tmp_path: Path) -> Iterator[Central]:
    opened = Central.open(tmp_path / "central.db", SystemClock())
    yield opened
    opened.close()


async def run(central: Central, runtime: FakeRuntime, session: Session, run_id: str) -> None:
    """A run of a session that is noted and started."""

    def begin(tx: Transaction) -> None:
        runs.begin(tx, session.id, run_id, runtime.name)

    await central.write(begin)
    layout = SessionLayout(Path("unused"))
    await runtime.start(AgentSpecification("i", run_id, session.id, session.agent_group_id, layout, Path("unused")))


async def test_of_all_agents_those_that_are_no_present_run_are_ended(central: Central) -> None:
    def add(tx: Transaction) -> tuple[Session, Session]:
        group = add_agent(tx.connection)
        return add_session(tx.connection, group, "shared/memory/one"), add_session(tx.connection, group, "two")

    served, settled = await central.write(add)
    runtime = FakeRuntime("i")
    await run(central, runtime, served, "run_1")  # its start was given up: another one is the present run
    await run(central, runtime, served, "run_2")
    await run(central, runtime, settled, "run_3")
    await central.write(runs.finalize, settled.id, "run_3", 0)
    assert {handle.run_id for handle in await end_strays(central, runtime)} == {"run_1", "run_3"}
    assert [handle.run_id for handle in await runtime.list()] == ["run_2"]
    assert await end_strays(central, runtime) == []


async def test_one_that_has_ended_is_left_to_those_who_keep_what_it_printed(central: Central) -> None:
    session = await central.write(lambda tx: add_session(tx.connection, add_agent(tx.connection)))
    runtime = FakeRuntime("i")
    await run(central, runtime, session, "run_1")
    await central.write(runs.finalize, session.id, "run_1", 0)
    runtime.engine.end("run_1")
    assert await end_strays(central, runtime) == []
    assert len(await runtime.list()) == 1
