"""One measured figure: a value beside its floor, what it should reach, and what another system published."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


class Kind(StrEnum):
    """What the number of a target means."""

    TIMES = "times the floor"
    ABOVE = "above the floor"
    ABSOLUTE = "absolute"


@dataclass(frozen=True, slots=True)
class Target:
    """The value may be at most this: a multiple of the floor, the floor and so much more, or a plain number."""

    limit: float
    kind: Kind

    def allows(self, value: float, floor: float | None) -> bool:
        """Whether a value is within it. A target that is relative to the floor needs one."""
        if self.kind is Kind.ABSOLUTE:
            return value <= self.limit
        assert floor is not None, f"a target {self.kind} needs a floor"
        return value <= (floor * self.limit if self.kind is Kind.TIMES else floor + self.limit)


def times(limit: float) -> Target:
    """At most so many times the floor."""
    return Target(limit, Kind.TIMES)


def above(limit: float) -> Target:
    """At most so much more than the floor, in the figure's unit."""
    return Target(limit, Kind.ABOVE)


def at_most(limit: float) -> Target:
    """At most this, in the figure's unit, whatever the floor."""
    return Target(limit, Kind.ABSOLUTE)


@dataclass(frozen=True, slots=True)
class Figure:
    """A value and its floor, both in `unit`, measured in the same run.

    `floor` None: there is nothing to compare with. `published` is what the nearest published system gives for the same,
    in `unit`. `note` says what has to be known to read it, if anything.
    """

    name: str
    value: float
    unit: str
    floor: float | None
    target: Target | None = None
    published: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Value by floor; None where the floor is 0 or missing."""
        return self.value / self.floor if self.floor else None

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without one."""
        return None if self.target is None else self.target.allows(self.value, self.floor)

    @property
    def factor(self) -> float | None:
        """How many times as much the published system takes; None where that cannot be said."""
        return self.published / self.value if self.published is not None and self.value else None

    def to_row(self) -> dict[str, Any]:
        """As an object of JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "floor": self.floor,
            "ratio": self.ratio,
            "target": None if self.target is None else self.target.limit,
            "target_is": None if self.target is None else self.target.kind.value,
            "reached": self.reached,
            "published": self.published,
            "factor": self.factor,
            "note": self.note,
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        """From what `to_row` made."""
        target = None if row["target"] is None else Target(row["target"], Kind(row["target_is"]))
        return cls(row["name"], row["value"], row["unit"], row["floor"], target, row["published"], row["note"])


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which that part of the values lies (1 to 99)."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
