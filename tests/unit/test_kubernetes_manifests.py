"""The manifests in deploy/kubernetes give the host the rights that it uses, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from host.runtime.kubernetes_client import read_template
from host.runtime.kubernetes_pod import PART, PART_LABEL
from host.runtime.kubernetes_probe import CLUSTER_RIGHTS, RIGHTS
from tests.unit.test_settings import loaded

DEPLOY = Path(__file__).parents[2] / "deploy" / "kubernetes"
OF_THE_DOCTOR = {("get", "persistentvolumeclaims"), ("list", "networkpolicies")}


def objects(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "base" / name).read_text(encoding="utf-8")))


def rights(kind: str) -> set[tuple[str, str]]:
    (role,) = [each for each in objects("rbac.yaml") if each["kind"] == kind]
    return {(verb, resource) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}


def test_the_role_has_the_rights_that_the_host_uses_and_no_others() -> None:
    assert rights("Role") == set(RIGHTS) | OF_THE_DOCTOR
    assert rights("ClusterRole") == set(CLUSTER_RIGHTS)


def test_the_network_policy_chooses_agents_by_the_label_they_have_and_opens_the_port_of_the_gateway() -> None:
    agents, host = objects("network.yaml")
    assert agents["spec"]["podSelector"]["matchLabels"] == {PART_LABEL: PART}
    assert set(agents["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    (rule,) = agents["spec"]["egress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8443}]
    assert rule["to"] == [{"podSelector": host["spec"]["podSelector"]}]
    assert host["spec"]["podSelector"]["matchLabels"] == {PART_LABEL: "dumbwaiter"}


def test_the_host_is_one_that_is_never_two() -> None:
    made = {each["kind"]: each for each in objects("host.yaml")}
    spec = made["StatefulSet"]["spec"]
    assert spec["replicas"] == 1
    assert spec["template"]["spec"]["serviceAccountName"] == "dumbwaiter"
    assert spec["template"]["spec"]["enableServiceLinks"] is False  # DUMBWAITER_GATEWAY_SERVICE_HOST is no setting
    (container,) = spec["template"]["spec"]["containers"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    settings = {each["name"]: each["value"] for each in container["env"]}
    address, _, port = settings["DUMBWAITER_GATEWAY_ADDRESS"].partition(":")
    assert address == made["Service"]["metadata"]["name"]
    assert int(port) == made["Service"]["spec"]["ports"][0]["port"]


def test_every_file_of_the_base_is_applied() -> None:
    (listed,) = objects("kustomization.yaml")
    files = {path.name for path in (DEPLOY / "base").iterdir()} - {"kustomization.yaml"}
    assert set(listed["resources"]) == files


def test_the_example_of_a_template_is_one() -> None:
    assert read_template(DEPLOY / "pod-template.yaml")["spec"]["containers"][0]["name"] == "agent"


def test_the_settings_of_the_host_are_settings(tmp_path: Path) -> None:
    (stateful,) = [each for each in objects("host.yaml") if each["kind"] == "StatefulSet"]
    given = {each["name"]: each["value"] for each in stateful["spec"]["template"]["spec"]["containers"][0]["env"]}
    here = {
        name: value.replace("/srv/dumbwaiter/data", str(tmp_path)).replace("/srv/dumbwaiter", str(tmp_path.parent))
        for name, value in given.items()
        if name.startswith("DUMBWAITER_")
    }
    settings = loaded(tmp_path, here)
    assert "error" not in settings
    assert settings["runtime"] == "kubernetes"
    assert settings["kubernetes"]["volumes"][0]["claim"] == "dumbwaiter"
