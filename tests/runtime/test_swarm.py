"""What Swarm says, as facts and sentences; and an agent in Swarm's words. (The real one: tests/cluster.)"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from host.runtime.protocol import AgentSpecification, RelayTarget
from host.runtime.specification import container_arguments, relay_arguments
from host.runtime.swarm_specification import (
    HAS_NETWORK,
    MAY_GAIN,
    NOWHERE,
    OTHER_FOLDER,
    agent_service,
    ended,
    is_ended,
    relay_service,
)
from host.runtime.swarm_state import (
    facts_of,
    is_over,
    nodes_of,
    placed_task,
    problem_of,
    refusal_of,
    status_of,
)
from shared_schema.layout import SessionLayout

SPECIFICATION = AgentSpecification(
    install_id="ins_1",
    run_id="run_1",
    session_id="ses_1",
    agent_group_id="agr_1",
    folder=SessionLayout(Path("/data/sessions/agr_1/ses_1")),
    workspace=Path("/data/agents/a"),
    image="sha256:1",
    uid=10001,
    gid=10001,
    node="two",
    way=RelayTarget("10.0.0.1:8443", "PEM", "token"),
)


def node(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "ID": f"id-of-{name}",
        "Spec": {"Availability": "active", "Labels": {"gpu": "yes", "dumbwaiter.max_agents": "3"}},
        "Description": {"Hostname": name, "Engine": {"EngineVersion": "20.10", "Labels": {"disk": "fast"}}},
        "Status": {"State": "ready", "Addr": "10.0.0.2"},
    } | changes


def task(state: str, *, code: int | None = None, said: str = "", **changes: Any) -> dict[str, Any]:
    status: dict[str, Any] = {"State": state, "Err": said}
    if code is not None:
        status["ContainerStatus"] = {"ContainerID": "c1", "ExitCode": code}
    return {"CreatedAt": "2026-01-01T00:00:00Z", "NodeID": "id-of-two", "Status": status} | changes


def test_a_service_is_one_container_on_one_node_that_is_never_restarted() -> None:
    made = agent_service(container_arguments(SPECIFICATION), node_id="id-of-two", grace=7)
    template = made["TaskTemplate"]
    assert made["Mode"] == {"Replicated": {"Replicas": 1}}
    assert template["RestartPolicy"]["Condition"] == "none"
    assert template["Placement"] == {"Constraints": ["node.id==id-of-two"]}
    assert "Networks" not in template
    container = template["ContainerSpec"]
    assert (container["User"], container["ReadOnly"], container["CapabilityDrop"]) == ("10001:10001", True, ["ALL"])
    assert template["Resources"]["Limits"] == {"MemoryBytes": 2 * 1024**3, "NanoCPUs": 2_000_000_000, "Pids": 256}
    assert {mount["Target"] for mount in container["Mounts"] if not mount.get("ReadOnly")} == {
        "/tmp",
        "/session/out",
        "/workspace",
    }
    assert "token" not in str(made)


def test_gpus_are_counted_by_swarm_as_what_the_nodes_configuration_names() -> None:
    given = replace(SPECIFICATION, limits=replace(SPECIFICATION.limits, gpus=2))
    plain = agent_service(container_arguments(SPECIFICATION), node_id="id-of-two", grace=7)
    made = agent_service(container_arguments(given), node_id="id-of-two", grace=7)
    reserved = {"GenericResources": [{"DiscreteResourceSpec": {"Kind": "NVIDIA-GPU", "Value": 2}}]}
    assert made["TaskTemplate"]["Resources"] == {**plain["TaskTemplate"]["Resources"], "Reservations": reserved}
    assert "Reservations" not in plain["TaskTemplate"]["Resources"]


def test_the_relay_has_the_network_of_its_node_and_sees_one_folder() -> None:
    assert SPECIFICATION.way is not None
    made = relay_service(relay_arguments(SPECIFICATION, SPECIFICATION.way), node_id="id-of-two", node="two")
    assert made["TaskTemplate"]["Networks"] == [{"Target": "host"}]
    assert [mount["Target"] for mount in made["TaskTemplate"]["ContainerSpec"]["Mounts"]] == ["/way"]
    assert made["TaskTemplate"]["Placement"] == {"Constraints": ["node.id==id-of-two"]}


def test_what_is_to_end_is_placed_nowhere_and_keeps_all_else() -> None:
    service = {"Spec": agent_service(container_arguments(SPECIFICATION), node_id="id-of-two", grace=7)}
    after = {"Spec": ended(service)}
    assert is_ended(after)
    assert not is_ended(service)
    assert after["Spec"]["TaskTemplate"]["Placement"] == {"Constraints": NOWHERE}
    assert after["Spec"]["TaskTemplate"]["ContainerSpec"] == service["Spec"]["TaskTemplate"]["ContainerSpec"]


def test_nodes_have_the_labels_of_swarm_and_of_their_engine() -> None:
    (found,) = nodes_of([node("two")])
    assert (found.name, found.slots, found.answers) == ("two", 3, True)
    assert (found.labels["gpu"], found.labels["disk"]) == ("yes", "fast")
    twins = nodes_of([node("two", ID="abcdefgh"), node("two", ID="zyxwvuts")])
    assert [each.name for each in twins] == ["two-abcdef", "two-zyxwvu"]


@pytest.mark.parametrize(
    ("changes", "is_open"),
    [
        ({}, True),
        ({"Status": {"State": "down"}}, False),
        ({"Status": {"State": "unknown"}}, False),
        ({"Spec": {"Availability": "pause"}}, False),
        ({"Spec": {"Availability": "drain", "Labels": None}}, False),
    ],
)
def test_a_node_takes_agents_when_swarm_says_that_it_is_there_and_takes_tasks(
    changes: dict[str, Any], is_open: bool
) -> None:
    (found,) = nodes_of([node("two", **changes)])
    assert facts_of(found, agents=0, drained=False, lost=False, problem=None).is_open == is_open
    assert not facts_of(found, agents=0, drained=False, lost=False, problem="its containers have a network").is_open


@pytest.mark.parametrize(
    ("given", "was_asked", "code", "reason"),
    [
        (task("complete", code=0), False, 0, None),
        (task("failed", code=3), False, 3, None),
        (task("shutdown", code=0), True, 0, None),
        (task("shutdown", code=137), True, 137, "ended by SIGKILL"),
        (task("failed", code=137), False, 137, "ended by SIGKILL: out of memory, or killed on its node"),
        (task("rejected", said="No such image: sha256:1"), False, None, "its node does not have the image"),
    ],
)
def test_how_a_task_ended(given: dict[str, Any], was_asked: bool, code: int | None, reason: str | None) -> None:
    assert is_over(given)
    status = status_of(given, was_asked=was_asked)
    assert not status.alive
    assert status.exit_code == code
    assert (status.reason or "").startswith(reason or "")
    assert (status.reason is None) == (reason is None)


@pytest.mark.parametrize("state", ["running", "starting", "assigned", "orphaned", "remove", "new", "pending"])
def test_what_its_node_has_not_said_is_no_end(state: str) -> None:
    assert not is_over(task(state))


def test_the_task_that_a_node_got_counts_and_not_the_one_that_waits_for_a_place() -> None:
    placed = task("shutdown", code=0)
    waiting = task("pending", CreatedAt="2026-01-02T00:00:00Z", NodeID="")
    assert placed_task([waiting, placed]) == placed
    assert placed_task([waiting]) is None


@pytest.mark.parametrize(
    ("code", "said", "sentence"),
    [
        (0, "", None),
        (HAS_NETWORK, "", "its containers have a network"),
        (MAY_GAIN, "", "its containers may gain privileges"),
        (OTHER_FOLDER, "", "it has another folder there than this host"),
        (None, "No such image: x", "the node two does not have the image"),
        (1, "", "a container ended there with exit status 1"),
    ],
)
def test_what_a_probe_found_is_a_sentence_with_what_to_do(code: int | None, said: str, sentence: str | None) -> None:
    found = problem_of(code, said, "two")
    assert (found and found[0]) == sentence
    assert found is None or found[1]


def test_why_a_node_refuses_is_a_sentence() -> None:
    said = 'invalid mount config for type "bind": bind source path does not exist: /srv/data'
    assert refusal_of(said, "two").startswith("the node two does not have the folder /srv/data: the shared folder")
    said = "no suitable node (insufficient resources on 1 node; scheduling constraints not satisfied on 2 nodes)"
    assert refusal_of(said, "two").startswith("Swarm finds no place on the node two: insufficient resources on 1 node")
    assert refusal_of("", "two") == "the node two refuses the agent: it does not say why"
