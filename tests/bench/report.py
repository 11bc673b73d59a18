"""All figures of a run: the table on the terminal, the same in markdown, and `build/bench.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.table import Table

from tests.bench.figure import Figure, Kind

FILE = Path("build") / "bench.json"
_COLUMNS = ("figure", "value", "floor", "ratio", "target", "reached", "published", "factor")
_WIDTH = 160  # of what is no terminal


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured in one run, and where. `left_out` says in sentences what was not, and why."""

    machine: str
    seconds: float
    figures: Sequence[Figure]
    left_out: Sequence[str] = ()

    def save(self, path: Path = FILE) -> None:
        """Write it as JSON."""
        path.parent.mkdir(exist_ok=True)
        content = asdict(self) | {"figures": [figure.to_row() for figure in self.figures]}
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path = FILE) -> Self:
        """Read what `save` wrote. Raises `OSError` when there is none."""
        content = json.loads(path.read_text(encoding="utf-8"))
        figures = [Figure.from_row(row) for row in content["figures"]]
        return cls(content["machine"], content["seconds"], figures, content["left_out"])


def show(run: Run) -> None:
    """Print the table."""
    console = Console()
    console = console if console.is_terminal else Console(width=_WIDTH)
    table = Table(*_COLUMNS)
    notes = _notes(run)
    for figure in run.figures:
        table.add_row(*_cells(figure, notes))
    console.print(table)
    for line in _remarks(run, notes):
        console.print(line, highlight=False)


def markdown(run: Run) -> str:
    """The table for a page of documentation."""
    notes = _notes(run)
    rows = [_COLUMNS, tuple("---" for _ in _COLUMNS), *(_cells(figure, notes, bad="**no**") for figure in run.figures)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    return "\n\n".join([table, *_remarks(run, notes)])


def _notes(run: Run) -> list[str]:
    """What has to be known to read some figures; its place in the list is its number."""
    return list(dict.fromkeys(figure.note for figure in run.figures if figure.note))


def _cells(figure: Figure, notes: Sequence[str], bad: str = "NO") -> tuple[str, ...]:
    return (
        f"{figure.name} ({notes.index(figure.note) + 1})" if figure.note else figure.name,
        f"{number(figure.value)} {figure.unit}",
        "-" if figure.floor is None else f"{number(figure.floor)} {figure.unit}",
        "-" if figure.ratio is None else f"{figure.ratio:.2f}",
        _target(figure),
        {True: "yes", False: bad, None: "-"}[figure.reached],
        "-" if figure.published is None else f"{number(figure.published)} {figure.unit}",
        "-" if figure.factor is None else f"{figure.factor:,.0f}x" if figure.factor >= 10 else f"{figure.factor:.1f}x",
    )


def _target(figure: Figure) -> str:
    if figure.target is None:
        return "-"
    if figure.target.kind is Kind.TIMES:
        return f"{figure.target.limit:g}x"
    sign = "+" if figure.target.kind is Kind.ABOVE else ""
    return f"{sign}{figure.target.limit:g} {figure.unit}"


def _remarks(run: Run, notes: Sequence[str]) -> list[str]:
    numbered = [f"({place}) {note}" for place, note in enumerate(notes, 1)]
    return [*numbered, *run.left_out, f"{run.machine}; measured in {run.seconds:.0f} s"]


def number(value: float) -> str:
    """Three digits that mean something, never an exponent."""
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.3f}"
