"""Over a mount with three seconds of caches and without locks: it is judged, and conversations go over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.operations.mount_measure import beside, measure
from host.operations.mount_verdict import MountVerdict, verdict_of
from tests.cluster.elsewhere import ElsewhereRuntime
from tests.cluster.late import late_mount
from tests.support.host import running

pytestmark = pytest.mark.full


def test_a_mount_with_caches_and_without_locks_is_late_but_safe(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with late_mount(source, tmp_path / "mounted") as mounted:
        measured = measure(source, beside(mounted))
    assert verdict_of(measured)[0] is MountVerdict.LATE
    assert measured.stat is not None
    assert measured.stat > 1.0
    assert not measured.locks


async def test_conversations_go_over_a_late_mount(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    tmp_path.chmod(0o755)
    with late_mount(data, tmp_path / "mounted") as mounted:
        settings = {"shared": True, "poll_seconds": 1.0, "heartbeat_seconds": 0.5, "silent_seconds": 20.0}

        def make(install_id: str) -> ElsewhereRuntime:
            return ElsewhereRuntime(install_id, data, mounted)

        async with running(data, make_runtime=make, **settings) as host:
            for number in range(20):
                assert await host.ask(f"message {number}") == f"scripted: message {number}"
            assert await host.ask("reply 3 word")
            await host.settled()
            assert "could not be answered" not in " ".join(host.texts())
            await host.say("kill-mid-commit")
            await host.settled()
            assert await host.ask("after it") == "scripted: after it"
