"""The report: numbers as a table, faults with examples, and whether the host stayed as large as it was."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.soak.keeper import Vitals
from tests.soak.verdict import Verdict

_MIB = 1024**2
_WARM_UP_SECONDS = 20.0
_EXAMPLES = 3
MORE_DESCRIPTORS = 8
MORE_MEMORY = 0.15
"""What the calm stretch may add: allocators and page caches of SQLite fill up for a while."""
LEAST_STRETCH_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Growth:
    """How one quantity went in the calm stretch: medians of its first and last quarter, the highest, the seconds."""

    first: float
    last: float
    highest: float
    seconds: float


def growth(measured: Sequence[Vitals], name: str) -> Growth | None:
    """The growth of a quantity in the longest life of a host, after it has warmed up; None when it was too short."""
    longest = max(measured, key=lambda vitals: vitals.age).life
    calm = [vitals for vitals in measured if vitals.life == longest and vitals.age > _WARM_UP_SECONDS]
    if len(calm) < 8:
        return None
    values = [float(getattr(vitals, name)) for vitals in calm]
    quarter = len(values) // 4
    return Growth(
        statistics.median(values[:quarter]),
        statistics.median(values[-quarter:]),
        max(values),
        calm[-1].age - calm[0].age,
    )


def judge_growth(measured: Sequence[Vitals], verdict: Verdict) -> None:
    """Add what grew to the faults. A stretch that is too short shows nothing of memory."""
    descriptors, resident = growth(measured, "descriptors"), growth(measured, "resident")
    found = []
    others = growth(measured, "other_descriptors")
    if descriptors is not None and others is not None and others.last > others.first + MORE_DESCRIPTORS:
        found.append(f"descriptors: {descriptors.first:g} → {descriptors.last:g}")
    if resident is not None and resident.seconds >= LEAST_STRETCH_SECONDS:
        more = resident.last / resident.first - 1
        if more > MORE_MEMORY:
            found.append(f"memory: {more:.0%} more in {resident.seconds:.0f} s")
    verdict.fault("the host grew", found)


@dataclass(frozen=True, slots=True)
class Report:
    """All that is told at the end."""

    seed: int
    seconds: float
    verdict: Verdict
    measured: Sequence[Vitals]
    start_seconds: Sequence[float]
    troubles: Counter[str]
    platforms: dict[str, Counter[str]]
    called: Counter[str]
    errors: Counter[str]
    most_agents: int
    data_bytes: int

    def lines(self) -> Iterator[str]:
        """The report as text."""
        verdict = self.verdict
        yield f"soak of {self.seconds / 60:.1f} minutes, seed {self.seed}"
        yield from _table("messages", verdict.numbers | dict(verdict.outcomes))
        yield from _table("trouble", {**self.troubles, "agents at once, at most": self.most_agents})
        for name, happened in self.platforms.items():
            yield from _table(f"platform {name}", happened)
        yield from _table("commands and calls", self.called)
        yield from _table("warnings and errors the host logged", self.errors)
        yield from self._size()
        yield ""
        yield "must be 0"
        for name, found in verdict.faults.items():
            mark = "   " if not found else "!! "
            yield f"  {mark}{name:<42}{len(found):>8}  {'; '.join(found[:_EXAMPLES])}"
        yield ""
        yield "nothing lost, nothing doubled" if verdict.is_good else "NOT GOOD"

    def _size(self) -> Iterator[str]:
        yield ""
        yield "size of the host (calm stretch: first quarter → last quarter, highest)"
        for name, unit, of_unit in (("descriptors", "", 1), ("threads", "", 1), ("resident", " MB", _MIB)):
            found = growth(self.measured, name)
            if found is not None:
                first, last, highest = (value / of_unit for value in (found.first, found.last, found.highest))
                yield f"  {name:<14}{first:.1f} → {last:.1f}, {highest:.1f}{unit} over {found.seconds:.0f} s"
            values = [getattr(vitals, name) / of_unit for vitals in self.measured]
            yield f"  {name:<14}in all lives: {min(values):.1f} to {max(values):.1f}{unit}"
        if self.start_seconds:
            yield f"  starts: {len(self.start_seconds)}, median {statistics.median(self.start_seconds):.2f} s, " + (
                f"slowest {max(self.start_seconds):.2f} s"
            )
        yield f"  data folder: {self.data_bytes / _MIB:.1f} MB"


def _table(title: str, numbers: dict[str, int] | Counter[str]) -> Iterator[str]:
    yield ""
    yield title
    for name, number in sorted(numbers.items(), key=lambda item: -item[1]):
        yield f"  {name:<55}{number:>8}"
