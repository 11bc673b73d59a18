"""A table as lines of text that fit a width. Pure; widths are in terminal cells, so wide characters count twice.

What does not fit is taken in this order: texts that may be cut are cut (`cut`), then columns that may be left out are
left out (`spare`, the highest first). Ids, times and numbers are never cut in two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shared_schema.dataclass import dataclass

GAP = "  "
LEAST = 10
"""The cells that a column which may be cut keeps as long as another column can be left out instead."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: the key of its values, what stands above it, and what may become of it where there is little room."""

    key: str
    heading: str = ""
    cut: bool = False
    spare: int = 0

    @property
    def title(self) -> str:
        """What stands above it."""
        return self.heading or self.key.replace("_", " ")


@dataclass(frozen=True, slots=True)
class _Sized:
    column: Column
    texts: Sequence[str]
    width: int


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """A line of headings and a line for each row; as wide as it gets where `width` is None."""
    from rich.cells import cell_len  # not needed in a pipe, and 30 ms

    sized = [
        _Sized(column, texts, max(map(cell_len, texts)))
        for number, column in enumerate(columns)
        for texts in [[column.title, *(row[number] for row in rows)]]
    ]
    if width is not None:
        sized = _cut(_without_spare(sized, width), width)
    count = len(rows) + 1
    return [GAP.join(_cell(each.texts[line], each.width) for each in sized).rstrip() for line in range(count)]


def _without_spare(sized: list[_Sized], width: int) -> list[_Sized]:
    """Leave out what can be spared until the rest fits, were all that may be cut as narrow as it may become."""
    while _needed([replace(each, width=min(each.width, LEAST)) if each.column.cut else each for each in sized]) > width:
        spare = max(sized, key=lambda each: each.column.spare)
        if not spare.column.spare:
            break
        sized = [each for each in sized if each is not spare]
    return sized


def _cut(sized: list[_Sized], width: int) -> list[_Sized]:
    """Take a cell from the widest column that may be cut until all fit."""
    widths = [each.width for each in sized]
    able = [number for number, each in enumerate(sized) if each.column.cut]
    for _ in range(_needed(sized) - width):
        widest = max(able, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= 1:
            break
        widths[widest] -= 1
    return [replace(each, width=cells) for each, cells in zip(sized, widths, strict=True)]


def _needed(sized: Sequence[_Sized]) -> int:
    return sum(each.width for each in sized) + len(GAP) * max(0, len(sized) - 1)


def _cell(text: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    length = cell_len(text)
    if length <= width:
        return text + " " * (width - length)
    return set_cell_size(text, width - 1) + "…"
