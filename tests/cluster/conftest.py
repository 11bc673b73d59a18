"""The clusters that the tests of this folder share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.clusters import Cluster, a_cluster
from tests.cluster.swarm import Swarm, a_swarm
from tests.conftest import AgentImage


@pytest.fixture(scope="session")
def cluster(script_image: str, agent_image: AgentImage) -> Iterator[Cluster]:
    """A Kubernetes, started once."""
    with a_cluster(script_image, agent_image.name) as found:
        yield found


@pytest.fixture
def shared_folder(cluster: Cluster) -> Iterator[Path]:
    """A folder that this machine and all nodes see at one path."""
    folder = Path(tempfile.mkdtemp(dir=cluster.shared))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def swarm(script_image: str, agent_image: AgentImage) -> Iterator[Swarm]:
    """Three machines in a Swarm, which have the images."""
    with a_swarm() as found:
        found.load(script_image, agent_image.name)
        yield found
