"""What the cluster says of a pod and its node, as facts and in sentences. Pure: from the JSON of the API.

The rule: an agent has ended when its own node says so (a container that is terminated), when it never was on a node, or
when the admin has taken the node from the cluster. Nothing else is an end: not a phase that a controller wrote, not a
pod that is deleted by force, and not a node that is silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from host.runtime.exit_status import reason_of
from host.runtime.kubernetes_pod import AGENT
from host.runtime.protocol import AgentStatus
from shared_schema.dataclass import dataclass

_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
"""The taint with which an admin says that a node is off (Kubernetes: non-graceful node shutdown)."""
_UNKNOWN_END = "ContainerStatusUnknown"
_OUT_OF_MEMORY = "OOMKilled"
_NEVER_STARTS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError"}
)
_TRIES_ON = frozenset({"CreateContainerError", "RunContainerError"})
_PLAIN = frozenset({"Completed", "Error"})
_MOST_TEXT = 300


class NodeStanding(StrEnum):
    """Whether a node can speak for its pods."""

    READY = "ready"
    AWAY = "away"
    GONE = "gone"  # the admin has taken it from the cluster, or says that it is off


@dataclass(frozen=True, slots=True)
class PodStanding:
    """How it stands with a pod. `ended` None: it may live.

    `hopeless` says why it cannot start, `unplaced` why no node takes it. `is_over` says how a pod ended whose node has
    said so of the whole and not of its container: some nodes do that just before they end it.
    """

    ended: AgentStatus | None
    node: str
    is_deleted: bool
    hopeless: str | None = None
    unplaced: str | None = None
    is_over: AgentStatus | None = None


def node_of(pod: Mapping[str, Any]) -> str:
    """The node that a pod was given; empty while there is none."""
    return str(pod["spec"].get("nodeName") or "")


def node_standing(node: Mapping[str, Any] | None) -> NodeStanding:
    """What a node's own object says of it; None: the cluster has no such node any more."""
    if node is None:
        return NodeStanding.GONE
    if any(taint.get("key") == _OUT_OF_SERVICE for taint in node.get("spec", {}).get("taints") or ()):
        return NodeStanding.GONE
    is_ready = _condition(node, "Ready").get("status") == "True"
    return NodeStanding.READY if is_ready else NodeStanding.AWAY


def takes_pods(node: Mapping[str, Any]) -> bool:
    """Whether a node is ready and not cordoned."""
    return node_standing(node) is NodeStanding.READY and not node.get("spec", {}).get("unschedulable")


def standing(pod: Mapping[str, Any], node: NodeStanding | None, *, container: str = AGENT) -> PodStanding:
    """How it stands with a pod; `node` is how its node is, None while it has none."""
    status, metadata = pod.get("status") or {}, pod["metadata"]
    is_deleted = metadata.get("deletionTimestamp") is not None
    name = node_of(pod)
    containers = status.get("containerStatuses") or ()
    found: Mapping[str, Any] = next((each for each in containers if each["name"] == container), {})
    state = found.get("state") or {}
    over = status.get("phase") in ("Failed", "Succeeded")
    ended: AgentStatus | None = None
    if (terminated := state.get("terminated")) is not None:
        ended = _ended(terminated, status)
    elif _was_lost_sight_of(found) and is_deleted and "running" not in state:
        ended = AgentStatus(alive=False, reason=_pod_reason(status))
    elif not name:
        ended = AgentStatus(alive=False, reason=noted_reason(pod)) if is_deleted else None
    elif node is NodeStanding.GONE:
        ended = AgentStatus(alive=False, reason=f"its node {name} was taken from the cluster")
    elif _is_confirmed(pod) and not over and node is NodeStanding.READY and "running" not in state:
        ended = AgentStatus(alive=False, reason=noted_reason(pod))
    if ended is not None:
        return PodStanding(ended, name, is_deleted)
    is_over = over and node is NodeStanding.READY and "running" not in state
    return PodStanding(
        None,
        name,
        is_deleted,
        hopeless=None if is_deleted else _hopeless(status),
        unplaced=None if name or is_deleted else _unplaced(status),
        is_over=AgentStatus(alive=False, reason=noted_reason(pod) or _pod_reason(status)) if is_over else None,
    )


REASON = "dumbwaiter/reason"
"""The annotation that keeps why this host gave a pod up."""


def noted_reason(pod: Mapping[str, Any]) -> str | None:
    """Why this host gave a pod up, if it did."""
    reason: str | None = (pod["metadata"].get("annotations") or {}).get(REASON)
    return reason


def last_events(events: Iterable[Mapping[str, Any]]) -> Sequence[str]:
    """What the cluster has noted of a pod as trouble, the newest first, each once."""
    troubles = [each for each in events if each.get("type") == "Warning"]
    troubles.sort(key=lambda each: str(each.get("lastTimestamp") or each.get("eventTime") or ""), reverse=True)
    return list(dict.fromkeys(_short(str(each.get("message") or each.get("reason"))) for each in troubles))


def _ended(terminated: Mapping[str, Any], status: Mapping[str, Any]) -> AgentStatus:
    reason = str(terminated.get("reason") or "")
    if reason == _UNKNOWN_END or (not reason and terminated.get("finishedAt") is None):
        return AgentStatus(alive=False, reason=_pod_reason(status))  # old nodes lose it when they delete a pod
    exit_code = int(terminated.get("exitCode") or 0)
    said = _pod_reason(status) or ("" if reason in _PLAIN else _short(str(terminated.get("message") or reason)))
    return AgentStatus(
        alive=False,
        exit_code=exit_code,
        reason=reason_of(exit_code, out_of_memory=reason == _OUT_OF_MEMORY, error=said),
    )


def _is_confirmed(pod: Mapping[str, Any]) -> bool:
    """Whether a node has said that nothing is left of a pod that is deleted: it sets the time that is left to 0."""
    metadata = pod["metadata"]
    return metadata.get("deletionTimestamp") is not None and metadata.get("deletionGracePeriodSeconds") == 0


def _was_lost_sight_of(container: Mapping[str, Any]) -> bool:
    """The node deletes the pod and finds its container no more (1.20 says it so)."""
    last = (container.get("lastState") or {}).get("terminated") or {}
    return last.get("reason") == _UNKNOWN_END


def _pod_reason(status: Mapping[str, Any]) -> str | None:
    """Why the cluster ended a pod, in words: evicted, preempted, refused by the node."""
    disruption = next((each for each in status.get("conditions") or () if each["type"] == "DisruptionTarget"), None)
    if disruption is not None and disruption.get("status") == "True":
        return f"the cluster ended it: {_short(str(disruption.get('message') or disruption.get('reason')))}"
    reason, message = status.get("reason"), _short(str(status.get("message") or ""))
    if reason == "Evicted":
        return f"it was evicted from its node: {message}"
    return f"its node refuses it: {message or reason}" if reason else None


def _hopeless(status: Mapping[str, Any]) -> str | None:
    """Why a pod on a node does not start, and will not without a person."""
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = str(waiting.get("reason") or ""), _short(str(waiting.get("message") or ""))
        if reason in _NEVER_STARTS and "Image" in reason:
            return f"the image {container.get('image')} cannot be had on its node: {message or reason}"
        if reason in _NEVER_STARTS | _TRIES_ON:
            return f"its node cannot make the container: {message or reason}"
    return None


def _unplaced(status: Mapping[str, Any]) -> str | None:
    condition = _condition({"status": status}, "PodScheduled")
    if condition.get("status") == "False":
        return _short(str(condition.get("message") or condition.get("reason") or "no node takes it"))
    return None


def _condition(thing: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    conditions = (thing.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == kind), {})


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"
