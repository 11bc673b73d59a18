"""The hostile agent in a container: what differs from a plain process (tests/faults/test_hostile_agent.py)."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT, TEST_LABEL, AgentImage
from tests.faults.test_hostile_agent import Result, attack, require
from tests.hostile.table import TRICKS, Expected

pytestmark = [pytest.mark.docker, pytest.mark.alone]

LIMIT = 240.0
# Devices are links there, other files cannot be linked or locked, and files, memory and processes are limited.
IN_A_CONTAINER: dict[str, Expected] = {
    trick: TRICKS[trick].expected
    for trick in (
        "a device in place of outbound.db",
        "a pipe in place of outbound.db",
        "a file of the host's under a second name in place of outbound.db",
        "a journal that names a super-journal",
        "100 GB, sparse",
        "messages of other sessions",
        "inbound.db read for ever",
        "deaf",
        "children that leave home",
        "children without end",
    )
} | {
    "inbound.db locked for ever": dataclasses.replace(TRICKS["inbound.db locked for ever"].expected, lives=None),
    "an id without end": Expected("failed", "This message could not be answered: the agent died: out of memory"),
}


@pytest.fixture(scope="module")
def hostile_image(agent_image: AgentImage) -> Iterator[str]:
    """The image of agents, running the hostile one instead."""
    tag = f"dumbwaiter-test-hostile:{os.getpid()}"
    dockerfile = f"""
        FROM {agent_image.name}
        COPY __init__.py /app/tests/
        COPY hostile /app/tests/hostile
        LABEL {TEST_LABEL}=1
        ENTRYPOINT ["python3", "-m", "tests.hostile"]
        """
    command = ["docker", "build", "-q", "-t", tag, "-f", "-", str(ROOT / "tests")]
    subprocess.run(command, input=dockerfile, text=True, capture_output=True, check=True)
    yield tag
    subprocess.run(["docker", "image", "rm", "-f", tag], capture_output=True, check=True)


@pytest.fixture(scope="module")
def results(agent_image: AgentImage, hostile_image: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """All of them at the same time, each in a container of its own."""
    images = ["--images", agent_image.name, hostile_image]
    return attack(tmp_path_factory.mktemp("hostile"), list(IN_A_CONTAINER), *images, limit=LIMIT)


@pytest.mark.parametrize("trick", IN_A_CONTAINER)
def test_a_trick_in_a_container_harms_its_own_session_alone(results: dict[str, Result], trick: str) -> None:
    require(IN_A_CONTAINER[trick], results[trick])
