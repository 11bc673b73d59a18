"""A MooseFS that hangs for longer than the lease, while a host serves, another stands by and an agent is in a turn.

Two machines, each with a mount of its own; the agents' engine sees the folder through a third one.
"""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from host.lease import EXIT_LEASE
from host.lease_rules import Timing
from tests.cluster.host_machine import SETTINGS, containers, host_machine
from tests.cluster.moosefs import a_moosefs, lacks
from tests.conftest import AgentImage
from tests.support.host import rows
from tests.support.wait import until_sync

pytestmark = [pytest.mark.full, pytest.mark.docker]

HANGS_SECONDS = Timing().wait + 10
ENDS = "this host ends at once"
OUTCOMES = """
SELECT (SELECT count(*) FROM ingest WHERE status = 'completed') AS answered,
    (SELECT count(*) FROM ingest) AS asked, (SELECT count(*) FROM deliveries) AS sent
"""
RUNNING = "SELECT id FROM turns WHERE status = 'running'"
SAID = "SELECT json_extract(content, '$.text') AS text FROM messages_out ORDER BY seq"


@pytest.mark.parametrize("master", [False, True], ids=["the chunk server", "the master"])
def test_the_host_ends_and_another_takes_over_once_the_mount_is_back(
    tmp_path: Path, agent_image: AgentImage, master: bool
) -> None:
    if (why := lacks()) is not None:
        pytest.skip(why)
    data = tmp_path / "data"
    data.mkdir()
    with ExitStack() as undo:
        moosefs = undo.enter_context(a_moosefs(3))
        seen = [mount / "data" for mount in moosefs.mounts]
        seen[0].mkdir()
        subprocess.run(["mount", "--bind", str(seen[2]), str(data)], check=True, timeout=60)
        undo.callback(subprocess.run, ["umount", "-l", str(data)], check=False, timeout=60)
        (data / "dumbwaiter.toml").write_text(SETTINGS.format(image=agent_image.name))
        one, two = (
            undo.enter_context(host_machine(name, data, f"mount --bind {there} {data}"))
            for name, there in zip(("one", "two"), seen, strict=False)
        )
        one.start()
        one.waits_for("ready")
        two.start("--standby")
        two.waits_for("on standby")
        one.run("agent-group", "set", "assistant", "--provider", "scripted")
        assert one.run("chat", "-m", "hello").startswith("scripted: hello\n")
        agents = containers()
        asking = one.begin("chat", "-m", "think 3")
        undo.callback(asking.kill)
        (outbound,) = (data / "sessions").glob("*/*/out/outbound.db")
        until_sync(lambda: rows(outbound, RUNNING), "the agent is in its turn", 60)

        with moosefs.hanging(master=master):
            began = time.monotonic()
            until_sync(lambda: ENDS in one.log.read_text(), "the host says that it ends", HANGS_SECONDS)
            ended = time.monotonic() - began
            until_sync(lambda: time.monotonic() - began > HANGS_SECONDS, "the mount hangs long enough", 60)
            assert two.said("taking over") is None
        back = datetime.now(UTC)
        assert one.host is not None
        assert one.host.wait(60) == EXIT_LEASE
        assert one.log.read_text().partition(ENDS)[2].count("\n") == 1, "it says nothing more"
        two.waits_for("ready")
        took = (two.waits_for("taking over") - back).total_seconds()
        print(f"\nended {ended:.1f} s after the mount hung, taken over {took:.1f} s after it was back")
        assert two.said("taking over a running agent") is not None
        assert containers() == agents, "the agent of the first host goes on"
        assert two.run("chat", "-m", "and now?").startswith("scripted: and now?\n")

        until_sync(lambda: rows(data / "central.db", OUTCOMES)[0]["answered"] == 3, "each has its outcome", 60)
        assert rows(data / "central.db", OUTCOMES)[0] == {"answered": 3, "asked": 3, "sent": 3}
        texts = [row["text"] for row in rows(outbound, SAID)]
        assert texts == ["scripted: hello", "thought for 3 s", "scripted: and now?"], "nothing is said twice"
