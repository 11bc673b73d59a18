"""Where an agent is placed: a pure decision."""

from __future__ import annotations

import pytest

from host.runtime.placement import NodeFacts, NoRoom, place
from host.runtime.protocol import RuntimeUnavailable, StartFailed

GPU = {"gpu": "yes"}
ONE = NodeFacts("one", slots=10)
TWO = NodeFacts("two", slots=10)
BIG = NodeFacts("big", slots=100, agents=50)
WITH_GPU = NodeFacts("gpu1", slots=2, labels={"gpu": "yes", "disk": "fast"})


@pytest.mark.parametrize(
    ("nodes", "labels", "expected"),
    [
        ([ONE], {}, "one"),
        ([TWO, ONE], {}, "one"),  # equals: by name
        ([NodeFacts("one", 10, agents=1), TWO], {}, "two"),
        ([NodeFacts("one", 10, agents=6), BIG], {}, "big"),  # the larger share is free, not the larger number taken
        ([NodeFacts("one", 10, agents=4), BIG], {}, "one"),
        ([ONE, WITH_GPU], GPU, "gpu1"),
        ([ONE, WITH_GPU], GPU | {"disk": "fast"}, "gpu1"),
        ([NodeFacts("one", 10, drained=True), TWO], {}, "two"),
        ([NodeFacts("one", 10, lost=True), TWO], {}, "two"),
        ([NodeFacts("one", 10, answers=False), TWO], {}, "two"),
        ([NodeFacts("one", 1, agents=1), NodeFacts("two", 10, agents=9)], {}, "two"),
    ],
)
def test_the_node_with_the_largest_free_share_that_may_take_it(
    nodes: list[NodeFacts], labels: dict[str, str], expected: str
) -> None:
    assert place(nodes, labels) == expected
    assert place(reversed(nodes), labels) == expected  # the order of the settings means nothing


def test_a_label_that_no_node_has_is_a_start_that_fails() -> None:
    with pytest.raises(StartFailed, match="no node has disk=slow and gpu=yes"):
        place([ONE, WITH_GPU], GPU | {"disk": "slow"})
    with pytest.raises(StartFailed, match="there are no nodes"):
        place([], {})


def test_full_nodes_are_waited_for() -> None:
    with pytest.raises(NoRoom, match="all nodes are full: gpu1 runs 2"):
        place([ONE, NodeFacts("gpu1", 2, agents=2, labels=GPU)], GPU)


def test_nodes_that_cannot_be_used_now_are_named_with_the_reason() -> None:
    nodes = [NodeFacts("a", 1, lost=True), NodeFacts("b", 1, drained=True), NodeFacts("c", 1, answers=False)]
    with pytest.raises(RuntimeUnavailable, match="a was given up for lost, b is drained, c does not answer") as caught:
        place(nodes, {})
    assert not isinstance(caught.value, NoRoom)
