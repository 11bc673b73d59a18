"""What each session of a hostile crowd does, drawn from the table by a seed: the same seed gives the same crowd.

A session goes through every family of tricks in an order of its own. A step of it is a few tricks of different families
that one agent does at the same moment, to one folder.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from tests.hostile.table import TRICKS

TOGETHER = " | "
"""What stands between the tricks of a step, where the agent is told of it."""
MOST_AT_ONCE = 3

Step = tuple[str, ...]

_JOURNALS = ("journal", "WAL")
_LEASES = ("lease", "locked", "read for ever", "without end", "as many names")
_NAMES = (" name", "outbox", "ids of", "ids that", "messages of other", " in place of all the rest")
_FAMILIES = {
    "files": "files",
    "schemas": "schemas",
    "rows": "rows",
    "amounts": "rows",
    "asking": "requests",
    "way_out": "gateway",
    "life": "life",
}


def family(trick: str) -> str:
    """The room of the host that a trick is about."""
    module = TRICKS[trick].act.__module__.rpartition(".")[2]
    if any(word in trick for word in _JOURNALS):
        return "journals"
    if any(word in trick for word in _NAMES):
        return "names"
    if module == "files" and any(word in trick for word in _LEASES):
        return "leases"
    return _FAMILIES[module]


def families(tricks: Iterable[str]) -> dict[str, list[str]]:
    """Tricks by family, each in the order of the table."""
    found: dict[str, list[str]] = {}
    for trick in tricks:
        found.setdefault(family(trick), []).append(trick)
    return found


def crowd(seed: int, sessions: int, rounds: int = 1) -> list[list[Step]]:
    """The steps of each session: every family `rounds` times, in groups of one to three that are done at once.

    The trick of a family is dealt like cards, to one session after the other, so that a crowd tries as many as it can.
    """
    chance = random.Random(seed)
    by_family = families(trick for trick, what in TRICKS.items() if not what.container)
    decks: dict[str, list[str]] = {name: [] for name in by_family}

    def deal(name: str) -> str:
        if not decks[name]:
            decks[name] = chance.sample(by_family[name], len(by_family[name]))
        return decks[name].pop()

    steps: list[list[Step]] = []
    for _ in range(sessions):
        own: list[Step] = []
        for _ in range(rounds):
            own += _grouped(chance, [deal(name) for name in chance.sample(sorted(by_family), len(by_family))])
        steps.append(own)
    return steps


def _grouped(chance: random.Random, tricks: Sequence[str]) -> list[Step]:
    """The same tricks in their order, one to three at once."""
    groups: list[Step] = []
    at = 0
    while at < len(tricks):
        count = chance.randint(1, MOST_AT_ONCE)
        groups.append(tuple(tricks[at : at + count]))
        at += count
    return groups
