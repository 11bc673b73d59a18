"""On which node a new agent is placed. Pure; its specification is the table in its test.

A node takes an agent when it has every label that the agent group asks for, with that value, is not drained and not
lost, answers, and has a free slot. Of several the one with the largest share of free slots is taken, and among equals
the first by name, so that the same facts give the same node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from host.runtime.protocol import AgentHandle, RuntimeUnavailable, StartFailed


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

    @property
    def is_open(self) -> bool:
        """Whether it may take agents at all."""
        return self.answers and not self.drained and not self.lost


class NoRoom(RuntimeUnavailable):
    """Every node that may take the agent is full at the moment."""


def place(nodes: Iterable[NodeFacts], labels: Mapping[str, str]) -> str:
    """The name of the node for an agent that asks for these labels.

    Raises `StartFailed` where no node has the labels, `NoRoom` where all that have them are full, and
    `RuntimeUnavailable` where none of them can be used now.
    """
    known = list(nodes)
    fitting = [node for node in known if all(node.labels.get(name) == value for name, value in labels.items())]
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


def _why_not(node: NodeFacts) -> str:
    if node.lost:
        return "was given up for lost"
    return "is drained" if node.drained else "does not answer"


@runtime_checkable
class ManyNodes(Protocol):
    """What a runtime has that runs agents on several machines, beside `Runtime`. Handles name their node."""

    async def place(self, labels: Mapping[str, str]) -> str:
        """The node for a new agent; its slot counts as taken until the start is over (`AgentSpecification.node`).

        Raises as `placement.place`.
        """

    def give_up(self, node: str) -> None:
        """The agent that was placed there is not started after all."""

    async def list_on(self, node: str) -> Sequence[AgentHandle]:
        """The agents of this install on one node; none on one that is lost.

        Raises `RuntimeUnavailable` when it does not answer, or is in no settings.
        """

    def is_lost(self, node: str) -> bool:
        """Whether the admin has given a node up for lost."""

    def close_nodes(self, *, drained: frozenset[str], lost: frozenset[str]) -> None:
        """Which nodes take no more agents, and which are gone for good."""
