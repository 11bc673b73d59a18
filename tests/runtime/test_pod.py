"""The pod of an agent, as plain data; and what the cluster says of one. Nothing runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.runtime.kubernetes_pod import (
    AGENT,
    FINALIZER,
    RELAY,
    PodOptions,
    SharedVolume,
    merged,
    pod_manifest,
    pod_name,
)
from host.runtime.kubernetes_state import NodeStanding, last_events, node_standing, standing
from host.runtime.protocol import AgentSpecification, Mount, RelayTarget, ResourceLimits, StartFailed
from shared_schema.layout import SessionLayout

SHARED = Path("/srv/agents")
OPTIONS = PodOptions(volumes=[SharedVolume(SHARED, claim="agents")])
SPECIFICATION = AgentSpecification(
    install_id="ins_1",
    run_id="run_0011223344556677",
    session_id="ses_1",
    agent_group_id="agt_1",
    folder=SessionLayout(SHARED / "data/sessions/agt_1/ses_1"),
    workspace=SHARED / "data/agents/assistant",
    environment={"GREETING": "hello", "DUMBWAITER_SESSION": "/elsewhere"},
    limits=ResourceLimits(memory_bytes=512 * 1024**2, cpus=1.5),
    image="agent:1",
    uid=10001,
    gid=10002,
)
WAY = RelayTarget("10.0.0.1:8443", "CERTIFICATE", "TOKEN")


def pod(specification: AgentSpecification = SPECIFICATION, options: PodOptions = OPTIONS) -> dict[str, Any]:
    made = pod_manifest(specification, options)
    assert json.loads(json.dumps(made)) == made
    return made


def container(made: dict[str, Any], name: str = AGENT) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in made["spec"]["containers"] if each["name"] == name)
    return found


def assert_shut_in(made: dict[str, Any]) -> None:
    """The invariant of the module."""
    spec = made["spec"]
    assert [spec[name] for name in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")] == [False] * 4
    assert spec["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in spec
    assert spec["restartPolicy"] == "Never"
    assert spec["dnsPolicy"] == "None"
    assert spec["securityContext"]["runAsNonRoot"] is True
    for each in (*spec["containers"], *spec.get("initContainers", ())):
        security = each["securityContext"]
        assert security["runAsUser"] == 10001
        assert security["runAsGroup"] == 10002
        assert security["privileged"] is False
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "ports" not in each


def test_the_pod_of_a_run_is_named_and_labelled_after_it() -> None:
    metadata = pod()["metadata"]
    assert metadata["name"] == "run-0011223344556677" == pod_name(SPECIFICATION.run_id)
    assert metadata["labels"] == {
        "app.kubernetes.io/name": "dumbwaiter-agent",
        "dumbwaiter.install": "ins_1",
        "dumbwaiter.session": "ses_1",
        "dumbwaiter.agent_group": "agt_1",
        "dumbwaiter.run": "run_0011223344556677",
    }
    assert metadata["finalizers"] == [FINALIZER]


def test_an_agent_sees_its_session_read_only_with_out_and_workspace_writable() -> None:
    specification = replace(SPECIFICATION, mounts=(Mount(Path("/srv/books"), "books"),))
    options = replace(OPTIONS, volumes=[*OPTIONS.volumes, SharedVolume(Path("/srv/books"), host_path="/nodes/books")])
    made = pod(specification, options)
    mounts = {each["mountPath"]: each for each in container(made)["volumeMounts"]}
    session = "data/sessions/agt_1/ses_1"
    assert mounts["/session"] == {
        "name": "shared-0",
        "mountPath": "/session",
        "readOnly": True,
        "subPath": session,
    }
    assert (mounts["/session/out"]["subPath"], mounts["/session/out"]["readOnly"]) == (f"{session}/out", False)
    assert (mounts["/workspace"]["subPath"], mounts["/workspace"]["readOnly"]) == ("data/agents/assistant", False)
    assert mounts["/mnt/books"] == {"name": "shared-1", "mountPath": "/mnt/books", "readOnly": True}
    volumes = {each["name"]: each for each in made["spec"]["volumes"]}
    assert volumes["shared-0"] == {"name": "shared-0", "persistentVolumeClaim": {"claimName": "agents"}}
    assert volumes["shared-1"]["hostPath"] == {"path": "/nodes/books", "type": "Directory"}
    assert volumes["tmp"]["emptyDir"]["medium"] == "Memory"


def test_a_folder_in_no_volume_is_refused_with_what_to_add() -> None:
    with pytest.raises(StartFailed, match="pods do not see the folder /elsewhere") as raised:
        pod(replace(SPECIFICATION, workspace=Path("/elsewhere")))
    assert "[[kubernetes.volumes]]" in str(raised.value)


def test_what_it_may_use_is_a_limit_and_little_is_reserved() -> None:
    resources = container(pod())["resources"]
    assert resources["limits"] == {"memory": str(512 * 1024**2), "cpu": "1500m"}
    assert resources["requests"] == {"memory": str(256 * 1024**2), "cpu": "100m"}


def test_gpus_are_a_limit_of_the_device_plugins() -> None:
    given = replace(SPECIFICATION, limits=replace(SPECIFICATION.limits, gpus=2))
    assert container(pod(given))["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert "nvidia.com/gpu" not in container(pod())["resources"]["limits"]


def test_the_environment_is_its_own_and_paths_cannot_be_overridden() -> None:
    environment = {each["name"]: each["value"] for each in container(pod())["env"]}
    assert environment["GREETING"] == "hello"
    assert environment["DUMBWAITER_SESSION"] == "/session"
    assert pod()["spec"]["enableServiceLinks"] is False


def test_the_relay_alone_has_the_token_and_is_up_before_the_agent_is() -> None:
    made = pod(replace(SPECIFICATION, way=WAY))
    assert [each["name"] for each in made["spec"]["containers"]] == [RELAY, AGENT]
    assert "postStart" in container(made, RELAY)["lifecycle"]
    assert "TOKEN" in json.dumps(container(made, RELAY))
    assert "TOKEN" not in json.dumps(container(made))
    way = next(each for each in container(made)["volumeMounts"] if each["name"] == "way")
    assert way["readOnly"] is True
    assert_shut_in(made)


@pytest.mark.parametrize("wrong", [{"uid": 0}, {"gid": 0}, {"image": ""}])
def test_root_and_no_image_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(StartFailed):
        pod(replace(SPECIFICATION, **wrong))


def test_a_template_adds_what_is_not_decided_here() -> None:
    template = {
        "metadata": {"name": "mine", "labels": {"team": "a", "dumbwaiter.install": "ins_other"}, "finalizers": ["x/y"]},
        "spec": {
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "nodeSelector": {"zone": "a", "gpu": "no"},
            "containers": [
                {
                    "name": "agent",
                    "image": "other:1",
                    "env": [{"name": "EXTRA", "value": "1"}, {"name": "GREETING", "value": "no"}],
                    "resources": {"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": "1", "memory": "1Ti"}},
                    "volumeMounts": [{"name": "certificates", "mountPath": "/certificates", "readOnly": True}],
                },
                {"name": "watcher", "image": "watcher:1", "securityContext": {"privileged": True}},
            ],
            "volumes": [
                {"name": "certificates", "configMap": {"name": "certificates"}},
                {"name": "tmp", "hostPath": {"path": "/"}},
            ],
        },
    }
    made = pod(replace(SPECIFICATION, labels={"gpu": "yes"}), replace(OPTIONS, template=template))
    assert made["metadata"]["labels"]["team"] == "a"
    assert made["metadata"]["labels"]["dumbwaiter.install"] == "ins_1"
    assert made["metadata"]["finalizers"] == [FINALIZER]
    assert made["spec"]["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert made["spec"]["nodeSelector"] == {"zone": "a", "gpu": "yes"}
    agent = container(made)
    assert agent["image"] == "agent:1"
    assert {each["name"]: each["value"] for each in agent["env"]}["GREETING"] == "hello"
    assert {"name": "EXTRA", "value": "1"} in agent["env"]
    assert agent["resources"]["limits"] == {
        "nvidia.com/gpu": "1",
        "memory": str(512 * 1024**2),
        "cpu": "1500m",
    }
    assert agent["resources"]["requests"] == {"memory": str(256 * 1024**2), "cpu": "1"}
    assert "/certificates" in {each["mountPath"] for each in agent["volumeMounts"]}
    assert [each for each in made["spec"]["volumes"] if each["name"] == "tmp"] == [
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": str(ResourceLimits().tmp_bytes)}}
    ]
    assert_shut_in(made)


_SECURITY = st.dictionaries(
    st.sampled_from(
        ["privileged", "runAsUser", "allowPrivilegeEscalation", "capabilities", "procMount", "runAsNonRoot"]
    ),
    st.sampled_from([True, False, 0, {"add": ["SYS_ADMIN"]}, "Unmasked"]),
)
_CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["agent", "relay", "own"]), "securityContext": _SECURITY, "ports": st.just([{}])}
    ),
    max_size=3,
)
_SPECS = st.dictionaries(
    st.sampled_from(["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "automountServiceAccountToken"])
    | st.sampled_from(["serviceAccountName", "restartPolicy", "dnsPolicy", "securityContext"]),
    st.sampled_from([True, "Always", "Default", {"runAsUser": 0}]),
)


@given(spec=_SPECS, containers=_CONTAINERS, first=_CONTAINERS)
def test_no_template_takes_away_what_shuts_an_agent_in(
    spec: dict[str, Any], containers: list[Any], first: list[Any]
) -> None:
    if not isinstance(spec.get("securityContext", {}), dict):
        del spec["securityContext"]
    template = {"spec": {**spec, "containers": containers, "initContainers": first}}
    assert_shut_in(pod(replace(SPECIFICATION, way=WAY), replace(OPTIONS, template=template)))


def test_of_two_things_with_one_name_ours_is_kept() -> None:
    assert merged({"env": [{"name": "A", "valueFrom": 1}]}, {"env": [{"name": "A", "value": "2"}]}) == {
        "env": [{"name": "A", "value": "2"}]
    }


# What the cluster says


def said(state: dict[str, Any] | None = None, *, node: str = "one", deleted: int | None = None, **status: Any) -> Any:
    metadata: dict[str, Any] = {"name": "run-1"}
    if deleted is not None:
        metadata |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": deleted}
    containers = [] if state is None else [{"name": "agent", "image": "agent:1", "state": state}]
    spec = {"nodeName": node} if node else {}
    return {
        "metadata": metadata,
        "spec": spec,
        "status": {"phase": "Running", "containerStatuses": containers} | status,
    }


RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
OVER = {"exitCode": 3, "reason": "Error", "finishedAt": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize("node", [NodeStanding.READY, NodeStanding.AWAY])
@pytest.mark.parametrize(
    ("what", "pod_said"),
    [
        ("it runs", said(RUNNING)),
        ("it is being made", said({"waiting": {"reason": "ContainerCreating"}})),
        ("it is being deleted", said(RUNNING, deleted=5)),
        ("it was deleted by force", said(RUNNING, deleted=0)),
        ("a controller wrote a phase", said(RUNNING, phase="Failed", reason="NodeLost")),
    ],
)
def test_what_no_node_has_said_is_no_end(what: str, pod_said: Any, node: NodeStanding) -> None:
    assert standing(pod_said, node).ended is None, what


@pytest.mark.parametrize("node", [NodeStanding.READY, NodeStanding.AWAY])
def test_a_container_that_is_terminated_is_an_end_with_its_code(node: NodeStanding) -> None:
    ended = standing(said({"terminated": OVER}, phase="Failed"), node).ended
    assert ended is not None
    assert (ended.alive, ended.exit_code, ended.reason) == (False, 3, None)


@pytest.mark.parametrize(
    ("terminated", "reason"),
    [
        ({"exitCode": 137, "reason": "OOMKilled", "finishedAt": "x"}, "out of memory"),
        ({"exitCode": 137, "reason": "Error", "finishedAt": "x"}, "ended by SIGKILL"),
        ({"exitCode": 0, "reason": "Completed", "finishedAt": "x"}, None),
        ({"exitCode": 128, "reason": "StartError", "message": "no such file", "finishedAt": "x"}, "no such file"),
        ({"exitCode": 137, "reason": "ContainerStatusUnknown"}, None),
        ({}, None),
    ],
)
def test_why_a_container_ended_is_said_in_words(terminated: dict[str, Any], reason: str | None) -> None:
    ended = standing(said({"terminated": terminated}), NodeStanding.READY).ended
    assert ended is not None
    assert ended.reason == reason


def test_a_pod_that_never_had_a_node_ends_when_it_is_deleted() -> None:
    waiting = standing(said(node="", phase="Pending"), None)
    assert waiting.ended is None
    assert standing(said(node="", phase="Pending", deleted=0), None).ended is not None


def test_a_node_that_the_admin_took_away_ends_its_pods() -> None:
    ended = standing(said(RUNNING), NodeStanding.GONE).ended
    assert ended is not None
    assert ended.reason == "its node one was taken from the cluster"


def test_a_node_that_says_nothing_is_left_of_a_deleted_pod_is_believed_while_it_answers() -> None:
    pulling = said({"waiting": {"reason": "ImagePullBackOff"}}, phase="Pending", deleted=0)
    assert standing(pulling, NodeStanding.READY).ended is not None
    assert standing(pulling, NodeStanding.AWAY).ended is None


def test_an_evicted_pod_says_so_and_is_over_once_its_node_had_the_time() -> None:
    evicted = said(None, phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    found = standing(evicted, NodeStanding.READY)
    assert found.ended is None
    assert found.is_over is not None
    assert found.is_over.reason == "it was evicted from its node: The node was low on resource: memory."
    assert standing(evicted, NodeStanding.AWAY).is_over is None


def test_an_image_that_cannot_be_had_and_a_missing_node_are_said_in_words() -> None:
    pulling = said({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}, phase="Pending")
    assert standing(pulling, NodeStanding.READY).hopeless == (
        "the image agent:1 cannot be had on its node: Back-off pulling image"
    )
    condition = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: 3 Insufficient cpu."}
    unplaced = said(node="", phase="Pending", conditions=[condition])
    assert standing(unplaced, None).unplaced == "0/3 nodes are available: 3 Insufficient cpu."


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (None, NodeStanding.GONE),
        ({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, NodeStanding.READY),
        ({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, NodeStanding.AWAY),
        ({"status": {}}, NodeStanding.AWAY),
        ({"spec": {"taints": [{"key": "node.kubernetes.io/out-of-service"}]}, "status": {}}, NodeStanding.GONE),
    ],
)
def test_how_a_node_is(node: Any, expected: NodeStanding) -> None:
    assert node_standing(node) is expected


def test_events_are_told_newest_first_and_once() -> None:
    events = [
        {"type": "Normal", "message": "Scheduled", "lastTimestamp": "3"},
        {"type": "Warning", "message": "old", "lastTimestamp": "1"},
        {"type": "Warning", "message": "new", "lastTimestamp": "2"},
        {"type": "Warning", "message": "old", "lastTimestamp": "0"},
    ]
    assert last_events(events) == ["new", "old"]
