"""What Swarm says of nodes and tasks, as facts and sentences. Pure.

The end of a task is known when its node has reported it. Of a node that Swarm calls down nothing is known: its tasks
may run against what Swarm wants of them, and `orphaned` is only its guess after a day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from host.runtime.exit_status import reason_of
from host.runtime.placement import NodeFacts
from host.runtime.protocol import AgentStatus
from host.runtime.swarm_specification import HAS_NETWORK, MAY_GAIN, OTHER_FOLDER
from shared_schema.dataclass import dataclass

SLOTS_LABEL = "dumbwaiter.max_agents"
SLOTS = 10
_OVER = frozenset({"complete", "failed", "shutdown", "rejected"})
_KILLED = 137


@dataclass(frozen=True, slots=True)
class SwarmNode:
    """A node as the manager sees it. `name` is its host name, with its id where two have the same."""

    id: str
    name: str
    state: str
    availability: str
    address: str
    version: str
    labels: Mapping[str, str]
    said: str = ""

    @property
    def answers(self) -> bool:
        return self.state == "ready"

    @property
    def slots(self) -> int:
        """How many agents may run there, by a label of the node."""
        text = self.labels.get(SLOTS_LABEL, "")
        return int(text) if text.isdecimal() and text.isascii() and 0 < int(text) < 100_000 else SLOTS


def nodes_of(found: Sequence[Mapping[str, Any]]) -> list[SwarmNode]:
    """The nodes of Swarm's list, by name."""
    names = [each["Description"]["Hostname"] for each in found]
    nodes = []
    for each, name in zip(found, names, strict=True):
        labels = {
            **(each["Description"].get("Engine", {}).get("Labels") or {}),
            **(each["Spec"].get("Labels") or {}),
        }
        status = each["Status"]
        nodes.append(
            SwarmNode(
                id=each["ID"],
                name=name if names.count(name) == 1 else f"{name}-{each['ID'][:6]}",
                state=status["State"],
                availability=each["Spec"]["Availability"],
                address=status.get("Addr", ""),
                version=each["Description"].get("Engine", {}).get("EngineVersion", ""),
                labels=labels,
                said=status.get("Message", ""),
            )
        )
    return sorted(nodes, key=lambda node: node.name)


def facts_of(node: SwarmNode, *, agents: int, drained: bool, lost: bool, problem: str | None) -> NodeFacts:
    """A node for the placement."""
    return NodeFacts(
        name=node.name,
        slots=node.slots,
        agents=agents,
        labels=node.labels,
        answers=node.answers,
        drained=drained or node.availability != "active",
        lost=lost,
        problem=problem,
    )


def placed_task(tasks: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The task of a service that a node got; None when there is none. What waits for a place after the end does not
    count."""
    placed = [task for task in tasks if task.get("NodeID")]
    return max(placed, key=lambda task: str(task["CreatedAt"]), default=None)


def is_over(task: Mapping[str, Any]) -> bool:
    """Whether its node has said that it ended."""
    return task["Status"]["State"] in _OVER


def has_begun(task: Mapping[str, Any]) -> bool:
    """Whether its container was started."""
    return is_over(task) or task["Status"]["State"] == "running"


def status_of(task: Mapping[str, Any], *, was_asked: bool) -> AgentStatus:
    """How a task that is over ended; `was_asked`: by the host."""
    status = task["Status"]
    container = status.get("ContainerStatus") or {}
    if status["State"] == "rejected" or (not container.get("ContainerID") and status.get("Err")):
        return AgentStatus(alive=False, reason=refusal_of(status.get("Err", ""), ""))
    code = int(container.get("ExitCode", 0))
    reason = reason_of(code, out_of_memory=False, error="")
    if code == _KILLED and not was_asked:
        reason = "ended by SIGKILL: out of memory, or killed on its node (Swarm does not tell which)"
    return AgentStatus(alive=False, exit_code=code, reason=reason)


def refusal_of(said: str, node: str) -> str:
    """Why a node does not start a container, in a sentence."""
    where = f"the node {node}" if node else "its node"
    if "No such image" in said or "pull access denied" in said or "not found: manifest" in said:
        return f"{where} does not have the image"
    if "bind source path does not exist" in said:
        path = said.rpartition(": ")[2]
        return f"{where} does not have the folder {path}: the shared folder is not mounted there, or at another path"
    if "no suitable node" in said:
        return f"Swarm finds no place on {where}: {said.partition('(')[2].rstrip(')') or said}"
    return f"{where} refuses the agent: {said or 'it does not say why'}"


def problem_of(code: int | None, said: str, node: str) -> tuple[str, str] | None:
    """What the probe found wrong with a node, and what to do; None for a node on which agents may run."""
    configuration = "in /etc/docker/daemon.json of that node, and restart its docker"
    match code:
        case 0:
            return None
        case _ if code == HAS_NETWORK:
            return "its containers have a network", f'set "bridge": "none" {configuration}'
        case _ if code == MAY_GAIN:
            return "its containers may gain privileges", f'set "no-new-privileges": true {configuration}'
        case _ if code == OTHER_FOLDER:
            return "it has another folder there than this host", "mount the same shared folder there, at the same path"
        case None:
            sentence = refusal_of(said, node)
            if "does not have the image" in sentence:
                return sentence, f"load it there: `docker save IMAGE | ssh {node} docker load`"
            return sentence, "mend it on that node, and type `dumbwaiter node check`"
        case _:
            return f"a container ended there with exit status {code}", "see `docker service ps` and the node's log"
