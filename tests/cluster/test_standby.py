"""Two whole hosts on two machines, over a mount whose caches are late and that has no locks between them.

Agents run in an engine that outlives both hosts, which sees the folder without caches, as a third machine.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from host.lease_rules import Timing
from tests.cluster.host_machine import SETTINGS, containers, host_machine
from tests.cluster.late import CACHES
from tests.conftest import AgentImage

pytestmark = [pytest.mark.full, pytest.mark.docker]


def test_a_host_on_another_machine_takes_over_when_the_first_is_killed(tmp_path: Path, agent_image: AgentImage) -> None:
    if os.geteuid() != 0 or shutil.which("bindfs") is None or not Path("/dev/fuse").exists():
        pytest.skip("machines of their own need root, bindfs and /dev/fuse")
    data = tmp_path / "data"
    data.mkdir()
    for folder in (tmp_path, data):
        folder.chmod(0o755)
    server = tmp_path / "server"  # one name on all machines, as of a server: it is what the mount is known by
    server.mkdir()
    mounting = f"mount --bind {data} {server} && bindfs -o {CACHES},nonempty {server} {data}"
    (data / "dumbwaiter.toml").write_text(SETTINGS.format(image=agent_image.name))
    with host_machine("one", data, mounting) as one, host_machine("two", data, mounting) as two:
        one.start()
        one.waits_for("ready")
        two.start("--standby")
        two.waits_for("on standby")
        assert one.run("chat", "-m", "hello").startswith("hello\n")
        agents = containers()
        one.kill()
        renewed = datetime.fromtimestamp(max(file.stat().st_mtime for file in (data / "lease").iterdir()), UTC)
        took = (two.waits_for("taking over") - renewed).total_seconds()
        ready = (two.waits_for("ready") - renewed).total_seconds()
        print(f"\ntaken over {took:.1f} s after the last renewal, ready {ready:.1f} s after it")
        assert Timing().limit < took < Timing().wait + 10
        assert two.said("taking over a running agent") is not None
        assert containers() == agents, "the agent of the first host goes on"
        assert two.run("chat", "-m", "and now?").startswith("and now?\n")
        assert two.run("chat", "-m", "once more").startswith("once more\n")
