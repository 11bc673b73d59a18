"""What an engine would refuse when an agent is started is refused when it is set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared_schema.errors import InvalidValue
from tests.support.host import AGENT, running


async def test_limits_that_an_engine_will_refuse_are_refused_at_once(tmp_path: Path) -> None:
    refused: list[dict[str, Any]] = [
        {"memory_bytes": 4 * 1024**2},
        {"memory_bytes": 2**60},
        {"cpus": 0.001},
        {"cpus": 1e9},
        {"pids": 1},
        {"pids": 5_000_000},
        {"image": "Not An Image"},
        {"image": "name:"},
        {"image": ""},
    ]
    async with running(tmp_path / "data") as host:
        for limits in refused:
            with pytest.raises(InvalidValue):
                await host.do("agent_group.set", name=AGENT, **limits)
        for limits in (
            {"memory_bytes": 32 * 1024**2, "cpus": 0.01, "pids": 8},
            {"image": "localhost:5000/team/agent:1.0"},
            {"image": f"agent@sha256:{'0' * 64}"},
        ):
            await host.do("agent_group.set", name=AGENT, **limits)
