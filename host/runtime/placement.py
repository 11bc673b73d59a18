"""On which node a new agent is placed. Pure; its specification is the table in its test.

A node takes an agent when it has every label that the agent group asks for, with that value, is not drained and not
lost, answers, and has a free slot. Of several the one with the largest share of free slots is taken, and among equals
the first by name, so that the same facts give the same node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Protocol, runtime_checkable

from host.runtime.protocol import AgentHandle, RuntimeUnavailable, StartFailed
from shared_schema.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node as it is now. `agents` run there, `slots` is how many may."""

    name: str
    slots: int
    agents: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    answers: bool = True
    drained: bool = False
    lost: bool = False
    problem: str | None = None  # why no agent may run there, as the end of a sentence

    @property
    def is_open(self) -> bool:
        """Whether it may take agents at all."""
        return self.answers and not self.drained and not self.lost and self.problem is None


class NoRoom(RuntimeUnavailable):
    """Every node that may take the agent is full at the moment."""


def place(nodes: Iterable[NodeFacts], labels: Mapping[str, str]) -> str:
    """The name of the node for an agent that asks for these labels.

    Raises `StartFailed` where no node has the labels, `NoRoom` where all that have them are full, and
    `RuntimeUnavailable` where none of them can be used now.
    """
    known = list(nodes)
    fitting = [node for node in known if has_labels(node.labels, labels)]
    wanted = " and ".join(f"{name}={value}" for name, value in sorted(labels.items()))
    if not fitting:
        raise StartFailed(
            f"no node has {wanted}" if labels else "there are no nodes",
            hint="`dumbwaiter node list` shows what each has" if known else "`dumbwaiter node add` adds one",
        )
    usable = [node for node in fitting if node.is_open]
    if not usable:
        raise RuntimeUnavailable(
            "no node can take an agent now: " + ", ".join(f"{node.name} {_why_not(node)}" for node in fitting),
            hint="`dumbwaiter node list` shows how each is",
        )
    free = [node for node in usable if node.agents < node.slots]
    if not free:
        raise NoRoom("all nodes are full: " + ", ".join(f"{node.name} runs {node.agents}" for node in usable))
    return min(free, key=lambda node: (-(node.slots - node.agents) / node.slots, node.name)).name


def has_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether a node with these labels has all that are wanted."""
    return all(labels.get(name) == value for name, value in wanted.items())


def _why_not(node: NodeFacts) -> str:
    if node.lost:
        return "was given up for lost"
    if node.drained:
        return "is drained"
    return f"takes none: {node.problem}" if node.answers and node.problem else "does not answer"


@runtime_checkable
class ManyNodes(Protocol):
    """What a runtime has that runs agents on several machines, beside `Runtime`. Handles name their node."""

    async def place(self, labels: Mapping[str, str]) -> str:
        """The node for a new agent (`AgentSpecification.node`); its slot counts as taken until `start_ended`.

        Raises as `placement.place`.
        """

    def start_ended(self, node: str) -> None:
        """Who placed an agent there has started it, or does not: once for each `place`."""

    async def list_on(self, node: str) -> Sequence[AgentHandle]:
        """The agents of this install on one node; none on one that is lost.

        Raises `RuntimeUnavailable` when it does not answer, or is in no settings.
        """

    def is_lost(self, node: str) -> bool:
        """Whether the admin has given a node up for lost."""

    def close_nodes(self, *, drained: frozenset[str], lost: frozenset[str]) -> None:
        """Which nodes take no more agents, and which are gone for good."""


@runtime_checkable
class InspectedNodes(ManyNodes, Protocol):
    """What a person's commands ask of such a runtime, beside that. Raises `RuntimeUnavailable` for a node that does not
    answer, or is not known."""

    name: str
    away: dict[str, str]
    """What is wrong with nodes, as it was said the last time they were asked, by name."""

    async def facts(self) -> Sequence[NodeFacts]:
        """Every node as it is now, by name."""

    async def addresses(self) -> Mapping[str, str]:
        """Where each node is, by name, as far as that is known."""

    async def found_on(self, node: str) -> Sequence[AgentHandle]:
        """The agents of this install on a node, also on one that is lost and answers again."""

    async def end(self, handle: AgentHandle, grace: float) -> None:
        """End such an agent and forget it, also on a node that is lost."""

    async def ask(self, node: str) -> str:
        """The version of a node's engine."""

    async def check(self, node: str) -> str:
        """The same, once a container there has found what agents need. Raises `DumbwaiterError` with what to do."""

    async def run_once(
        self,
        node: str,
        image: str,
        folder: Path,
        arguments: Sequence[str],
        *,
        seconds: float = 30.0,
        writable: bool = False,
    ) -> bytes:
        """What Python prints in a container on a node that sees a folder as /mnt. Raises `StartFailed`."""
