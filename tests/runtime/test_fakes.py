"""The fakes that break the contract, each in its one way."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.runtime.fakes import (
    DiesAtOnceRuntime,
    FakeEngine,
    FakeRuntime,
    HangsOnStopRuntime,
    Lifetime,
    NeverStartsRuntime,
    SlowStartRuntime,
)
from host.runtime.protocol import RuntimeUnavailable
from shared_schema.clock import ManualClock
from shared_schema.ids import Prefix, new_id
from tests.runtime.agents import session_folder, specification

INSTALL = new_id(Prefix.INSTALL)


async def test_never_starts(tmp_path: Path) -> None:
    runtime = NeverStartsRuntime(INSTALL)
    with pytest.raises(RuntimeUnavailable):
        await runtime.start(specification(session_folder(tmp_path, ""), INSTALL))
    assert await runtime.list() == []
    assert len(runtime.started) == 1


async def test_starts_slowly(tmp_path: Path) -> None:
    runtime = SlowStartRuntime(INSTALL)
    handle = await runtime.start(specification(session_folder(tmp_path, ""), INSTALL))
    assert (await runtime.poll(handle)).alive


async def test_dies_at_once(tmp_path: Path) -> None:
    runtime = DiesAtOnceRuntime(INSTALL)
    status = await runtime.poll(await runtime.start(specification(session_folder(tmp_path, ""), INSTALL)))
    assert (status.alive, status.exit_code) == (False, 1)


async def test_hangs_on_stop(tmp_path: Path) -> None:
    runtime = HangsOnStopRuntime(INSTALL)
    handle = await runtime.start(specification(session_folder(tmp_path, ""), INSTALL))
    with pytest.raises(RuntimeUnavailable):
        await runtime.stop(handle, grace=0)
    assert (await runtime.poll(handle)).alive


async def test_a_life_goes_by_the_clock_it_was_given(tmp_path: Path) -> None:
    clock = ManualClock()
    runtime = FakeRuntime(INSTALL, lifetime=Lifetime(seconds=60), clock=clock)
    handle = await runtime.start(specification(session_folder(tmp_path, ""), INSTALL))
    clock.advance(59)
    assert (await runtime.poll(handle)).alive
    clock.advance(1)
    assert not (await runtime.poll(handle)).alive


async def test_a_test_can_end_an_agent_with_a_reason(tmp_path: Path) -> None:
    engine = FakeEngine()
    runtime = FakeRuntime(INSTALL, engine=engine)
    handle = await runtime.start(specification(session_folder(tmp_path, ""), INSTALL))
    engine.end(handle.run_id, 137, "out of memory")
    assert (await runtime.poll(handle)).reason == "out of memory"
