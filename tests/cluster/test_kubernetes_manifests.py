"""What is applied to a cluster: every manifest is accepted, and the rights are enough and the least."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from host.runtime.kubernetes import KubernetesRuntime
from host.runtime.kubernetes_client import ClusterAccess, ClusterClient, ClusterRefusal
from host.runtime.kubernetes_pod import PodOptions, SharedVolume
from host.runtime.kubernetes_probe import missing_rights
from tests.cluster.clusters import Cluster
from tests.cluster.machines import run
from tests.runtime.agents import LIVES, UID, eventually, session_folder, specification

pytestmark = [pytest.mark.full, pytest.mark.docker]

BASE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "base"


def manifests(cluster: Cluster) -> list[dict[str, Any]]:
    """The objects of the base, in the namespace of the tests."""
    made = run("kubectl", "kustomize", str(BASE)).replace("namespace: dumbwaiter", f"namespace: {cluster.namespace}")
    known = cluster.kubectl("api-versions").split()
    found = [each for each in yaml.safe_load_all(made) if each["kind"] != "Namespace"]
    for each in found:
        if each["apiVersion"] == "policy/v1" and "policy/v1" not in known:  # before 1.21, as its comment says
            each["apiVersion"] = "policy/v1beta1"
    return found


def test_every_manifest_is_accepted_by_the_api_server(cluster: Cluster) -> None:
    for each in manifests(cluster):
        said = cluster.kubectl("apply", "--dry-run=server", "-f", "-", entered=json.dumps(each))
        assert "dry run" in said, each["kind"]


async def test_the_rights_are_enough_to_run_agents_and_no_more(cluster: Cluster, shared_folder: Path) -> None:
    for each in manifests(cluster):
        if each["kind"] in ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"):
            cluster.kubectl("apply", "-f", "-", entered=json.dumps(each))
    try:
        client = ClusterClient(ClusterAccess(cluster.namespace, as_service_account(cluster, shared_folder)))
        assert await missing_rights(client) == []
        options = PodOptions(volumes=[SharedVolume(cluster.shared, host_path=str(cluster.shared))])
        runtime = KubernetesRuntime("ins_rights", client, options)
        layout = session_folder(shared_folder, LIVES)
        wanted = specification(layout, "ins_rights", image=cluster.script_image, uid=UID)
        handle = await runtime.start(wanted)

        async def is_ready() -> bool:
            return b"ready" in await runtime.logs(handle)

        await eventually(is_ready)
        assert (await runtime.poll(handle)).alive
        await runtime.stop(handle, 1)
        await runtime.remove(handle)
        assert await runtime.list() == []
        for verb, resource in (
            ("get", "secrets"),
            ("list", "secrets"),
            ("create", "pods/exec"),
            ("list", "configmaps"),
        ):
            assert not await client.may(verb, resource), f"{verb} {resource}"
        assert not await client.may("delete", "nodes", namespaced=False)
        with pytest.raises(ClusterRefusal, match="secrets is forbidden"):
            await client.read(f"/api/v1/namespaces/{cluster.namespace}/secrets")
        with pytest.raises(ClusterRefusal, match="forbidden"):
            await client.read("/api/v1/namespaces/kube-system/pods")
        await runtime.close()
    finally:
        cluster.kubectl("delete", "clusterrole,clusterrolebinding", "dumbwaiter-nodes")


def as_service_account(cluster: Cluster, folder: Path) -> Path:
    """A kubeconfig with which one is the service account of the base."""
    path = f"/api/v1/namespaces/{cluster.namespace}/serviceaccounts/dumbwaiter/token"
    asked = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
    token = json.loads(cluster.kubectl("create", "--raw", path, "-f", "-", entered=asked))["status"]["token"]
    configuration = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    configuration["users"][0]["user"] = {"token": token}
    made = folder / "kubeconfig"
    made.write_text(json.dumps(configuration))
    return made
