"""The image of agents: small, and with nothing in it that an agent could change or should not know."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.conftest import ROOT, TEST_LABEL, AgentImage

pytestmark = pytest.mark.docker

MOST_BYTES = 60_000_000


def inspect(image: str, what: str) -> str:
    return subprocess.check_output(["docker", "image", "inspect", "-f", what, image], text=True).strip()


def test_it_is_at_most_60_mb_larger_than_its_base(agent_image: AgentImage) -> None:
    added = int(inspect(agent_image.name, "{{.Size}}")) - int(inspect(agent_image.base, "{{.Size}}"))
    assert 0 < added <= MOST_BYTES


def test_it_says_its_version_and_runs_as_somebody_else_than_root(agent_image: AgentImage) -> None:
    configuration = json.loads(inspect(agent_image.name, "{{json .Config}}"))
    assert configuration["Labels"]["org.opencontainers.image.version"] == agent_image.name.partition(":")[2]
    assert configuration["User"] == "10001:10001"
    assert configuration["Entrypoint"] == ["python3", "-m", "container_agent"]


def find(image: str, *arguments: str) -> list[str]:
    """What `find /app …` prints in a container of the image."""
    run = ["docker", "run", "--rm", "--network=none", f"--label={TEST_LABEL}=1", "--entrypoint=find"]
    return subprocess.check_output([*run, image, "/app", *arguments], text=True).splitlines()


def test_only_the_agent_and_the_contract_are_in_it(agent_image: AgentImage) -> None:
    inside = {line.removeprefix("/app/") for line in find(agent_image.name, "-type", "f")}
    assert {path.partition("/")[0] for path in inside} == {"container_agent", "shared_schema"}
    compiled = {path for path in inside if path.endswith(".pyc")}
    sources = {path for path in inside if path.endswith(".py")}
    folders = ("container_agent", "shared_schema")
    assert sources == {str(path.relative_to(ROOT)) for name in folders for path in ROOT.glob(f"{name}/**/*.py")}
    assert len(compiled) == len(sources)


def test_its_code_can_be_written_by_nobody(agent_image: AgentImage) -> None:
    assert find(agent_image.name, "(", "!", "-user", "root", "-o", "-perm", "/022", ")") == []
