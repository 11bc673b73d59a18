"""The host in a container beside its agents, as compose.yaml starts it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import AgentImage
from tests.support.wait import until_sync

ROOT = Path(__file__).resolve().parents[2]


def compose(environment: dict[str, str], *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    has_plugin = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
    command = ["docker", "compose"] if has_plugin else ["docker-compose"]
    return subprocess.run(
        [*command, "-p", f"dumbwaiter-test-{os.getpid()}", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=check,
    )


@pytest.mark.docker
@pytest.mark.full
def test_a_host_in_a_container_answers_and_takes_its_agents_over_when_it_is_killed(
    agent_image: AgentImage, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    ours = {**os.environ, "BASE_IMAGE": agent_image.base, "DUMBWAITER_DATA": str(data)}
    chat = ("exec", "-T", "host", "dumbwaiter", "chat", "-m")
    try:
        compose(ours, "up", "-d", "--build")
        until_sync(lambda: compose(ours, "logs", "host").stdout.count('"ready"') == 1, "the host", 60)
        first = compose(ours, *chat, "hello", check=False)
        compose(ours, "kill", "host")
        compose(ours, "start", "host")
        until_sync(lambda: compose(ours, "logs", "host").stdout.count('"ready"') == 2, "the host again", 60)
        second = compose(ours, *chat, "and again", check=False)
        log = compose(ours, "logs", "host").stdout
    finally:
        compose(ours, "down", "--rmi", "all", check=False)
        shutil.rmtree(data, ignore_errors=True)

    assert first.returncode == 0, first.stderr + log
    assert second.returncode == 0, second.stderr + log
    assert "taking over a running agent" in log
