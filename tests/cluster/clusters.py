"""The Kubernetes that tests run on: that of KUBECONFIG, or one of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.own_cluster import PAUSE, OwnCluster, why_not

NAMESPACE = "dumbwaiter-test"
SHARED = "KUBERNETES_SHARED_FOLDER"
IMAGE = "KUBERNETES_SCRIPT_IMAGE"


@dataclass
class Cluster:
    """A cluster with a namespace for tests. `shared` is a folder that this machine and all nodes see at one path.

    `own` is None where KUBECONFIG names the cluster.
    """

    kubeconfig: Path
    shared: Path
    script_image: str
    agent_image: str
    own: OwnCluster | None = None
    namespace: str = NAMESPACE

    def kubectl(self, *arguments: str, entered: str | None = None) -> str:
        """What kubectl prints about the namespace of the tests; `entered` is its standard input."""
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *arguments]
        done = subprocess.run(command, input=entered, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done.stdout.strip()

    @property
    def nodes(self) -> list[str]:
        items = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        return sorted(each["metadata"]["name"] for each in items)


@contextmanager
def a_cluster(script_image: str, agent_image: str) -> Iterator[Cluster]:
    """A cluster for tests, or skip them with what is missing. `script_image` runs /session/agent.py."""
    given = os.environ.get("KUBECONFIG")
    if given:
        shared = os.environ.get(SHARED)
        if not shared:
            pytest.skip(f"with KUBECONFIG set {SHARED} to a folder that this machine and all nodes see at that path")
        found = Cluster(Path(given), Path(shared), os.environ.get(IMAGE, script_image), agent_image)
        with _namespace(found):
            yield found
        return
    if (missing := why_not()) is not None:
        pytest.skip(f"no Kubernetes: {missing}")
    own = OwnCluster()
    shared_folder = Path(tempfile.mkdtemp(prefix="dwk-shared-", dir="/tmp"))
    shared_folder.chmod(0o755)
    try:
        _pause(agent_image)
        own.up()
        own.load(PAUSE, script_image, agent_image)
        found = Cluster(own.kubeconfig, shared_folder, script_image, agent_image, own)
        with _namespace(found):
            yield found
    finally:
        own.down()
        shutil.rmtree(shared_folder, ignore_errors=True)


@contextmanager
def _namespace(cluster: Cluster) -> Iterator[None]:
    cluster.kubectl("create", "namespace", cluster.namespace)
    try:
        yield
    finally:
        for name in cluster.kubectl("get", "pods", "-o", "name").split():
            cluster.kubectl("patch", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")


def _pause(base: str) -> None:
    """The image of what holds the namespaces of a pod: any program that waits."""
    dockerfile = f'FROM {base}\nUSER 0:0\nLABEL dumbwaiter.test=1\nENTRYPOINT ["sleep", "infinity"]\n'
    command = ["docker", "build", "-q", "-t", PAUSE, "-"]
    subprocess.run(command, input=dockerfile, capture_output=True, text=True, check=True, timeout=300)
