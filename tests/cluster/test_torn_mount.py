"""A mount that shows a new header beside old pages: what was read lacks something, and no change would tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared_schema.layout import OUTBOUND
from tests.cluster.torn import TornMount, TornRuntime
from tests.support.host import running

SETTINGS: dict[str, Any] = {"shared": True, "poll_seconds": 0.1, "silent_seconds": 60.0}


@pytest.mark.parametrize("torn", ["inbound.db", OUTBOUND])
async def test_each_side_reads_again_what_has_not_changed_since(tmp_path: Path, torn: str) -> None:
    tmp_path.chmod(0o755)
    data, seen = tmp_path / "data", tmp_path / "seen"
    data.mkdir()
    seen.mkdir()
    mount = TornMount(data, seen, torn)

    def make(install_id: str) -> TornRuntime:
        return TornRuntime(install_id, mount, data, seen)

    with mount.carrying():
        async with running(data, make_runtime=make, **SETTINGS) as host:
            for number in range(3):
                assert await host.ask(f"message {number}") == f"scripted: message {number}"
            await host.settled()
            assert len(host.texts()) == 3
