"""One measured figure, and the table and file of all of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

BUILD = Path("build")


@dataclass(frozen=True, slots=True)
class Figure:
    """A value beside its floor, both in `unit`; `target` is the ratio to reach, none where there is no target."""

    name: str
    value: float
    unit: str
    floor: float
    target: float | None

    @property
    def ratio(self) -> float:
        return self.value / self.floor

    @property
    def reached(self) -> bool | None:
        return None if self.target is None else self.ratio <= self.target


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which that part of the values lies."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def report(figures: Sequence[Figure]) -> None:
    """Print the table, and write `build/bench.json`."""
    table = Table("figure", "value", "floor", "ratio", "target", "reached")
    for figure in figures:
        table.add_row(
            figure.name,
            f"{figure.value:.2f} {figure.unit}",
            f"{figure.floor:.2f} {figure.unit}",
            f"{figure.ratio:.2f}",
            "-" if figure.target is None else f"{figure.target:g}",
            "-" if figure.reached is None else ("yes" if figure.reached else "no"),
        )
    Console().print(table)
    BUILD.mkdir(exist_ok=True)
    rows = [asdict(figure) | {"ratio": figure.ratio, "reached": figure.reached} for figure in figures]
    (BUILD / "bench.json").write_text(json.dumps({"figures": rows}, indent=2) + "\n", encoding="utf-8")
