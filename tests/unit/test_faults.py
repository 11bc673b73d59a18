"""What is logged of a session's fault: each cause once."""

from __future__ import annotations

import pytest

from host.supervision.decide import SupervisionLimits
from host.supervision.faults import Faults
from shared_schema.clock import ManualClock
from shared_schema.errors import FileTrouble

LIMITS = SupervisionLimits(
    start_seconds=60,
    silent_seconds=30,
    turn_seconds=1800,
    idle_seconds=600,
    background_seconds=7200,
    engine_seconds=500,
    fault_seconds=60,
    retry_seconds=1,
    max_retries=3,
)
READING, WRITING = (
    FileTrouble("cannot be opened", where="outbound.db"),
    FileTrouble("no space is left", where="inbound.db"),
)


def test_two_causes_that_take_turns_are_logged_once_each_until_the_fault_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults = Faults(ManualClock(), LIMITS)
    for _ in range(3):
        for error in (READING, WRITING):
            assert faults.note("ses_1", error).cause.endswith(f"({error.where})")
    assert [vars(record)["error"] for record in caplog.records] == [str(READING), str(WRITING)]
    faults.over("ses_1")
    faults.note("ses_1", READING)
    assert len(caplog.records) == 3
