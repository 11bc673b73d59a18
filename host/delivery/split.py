"""A long text in parts that a platform takes. Pure.

A text is cut between paragraphs, else between lines, sentences or words, and never inside a grapheme. A link is not
cut at all, and neither is a block of code that fits into one message; a longer one is closed at the end of a part and
opened again in the next. What is longer than a message by itself (a link, a word) is cut where it must be.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import Literal

import regex

from shared_schema.dataclass import dataclass

Unit = Literal["characters", "utf16", "bytes"]

_SIZES: dict[Unit, Callable[[str], int]] = {
    "characters": lambda character: 1,
    "utf16": lambda character: 2 if ord(character) > 0xFFFF else 1,
    "bytes": lambda character: len(character.encode("utf-8", "surrogatepass")),
}
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
_WHOLE = re.compile(
    r"!?\[[^\[\]\n]{0,2000}\]\([^()\s]{0,2000}(?:\([^()\s]{0,500}\)[^()\s]{0,500})?\)"  # a link
    r"|https?://[^\s<>]{1,2000}"
    r"|(?<!`)`[^`\n]{1,200}`(?!`)"  # code in a line
)
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_LINE = re.compile(r"\n")
_SENTENCE = re.compile(r"(?<=[.!?\u2026\u3002\uff01\uff1f])\s+")
_WORD = re.compile(r"\s+")
_SAID = re.compile(r"\S")
_LEAST = 3
"""A cut of a better kind is taken unless it leaves less than this part of a message."""
_SMALLEST = 40
"""Room in which fences and links are looked after; in less, a text is cut where it must be."""
_WINDOW = 200
"""Characters around a cut in which graphemes are looked for; no real text has a longer one."""


def size_of(text: str, unit: Unit) -> int:
    """The length of a text in the unit of a platform."""
    if unit == "characters":
        return len(text)
    return sum(map(_SIZES[unit], text))


def split(text: str, limit: int | None, unit: Unit = "characters") -> list[str]:
    """The text in parts of at most `limit`; one part where it fits, none empty but for an empty text."""
    if limit is None or size_of(text, unit) <= limit:
        return [text]
    parts = _Splitting(text, max(1, limit), unit).parts()
    return parts or [""]


@dataclass(frozen=True, slots=True)
class _Code:
    """A block of code: where its opening line, its lines, its closing line and the rest begin."""

    start: int
    body: int
    end: int
    after: int
    opening: str
    fence: str


class _Splitting:
    def __init__(self, text: str, limit: int, unit: Unit) -> None:
        self._text = text
        self._limit = limit
        self._unit = unit
        # What opens and closes a block stands in each of its parts: where that leaves little room, its lines are text.
        self._blocks = [each for each in _blocks(text) if limit >= _SMALLEST and self._around(each) < limit // 2]
        self._whole = [found.span() for found in _WHOLE.finditer(text)] if limit >= _SMALLEST else []
        self._starts = [start for start, _ in self._whole]

    def parts(self) -> list[str]:
        parts: list[str] = []
        position, text = 0, self._text
        while position < len(text):
            block = self._inside(position)
            head = "" if block is None else f"{block.opening}\n"
            end = self._reach(position, self._limit - size_of(head, self._unit))
            if end >= len(text):
                if text[position:].strip():
                    parts.append(head + text[position:])
                break
            cut, following, tail = self._cut(position, end, block, head)
            part = head + text[position:cut] + tail
            if part.strip():
                parts.append(part if tail else part.rstrip())
            position = following
        return parts

    def _cut(self, position: int, end: int, inside: _Code | None, head: str) -> tuple[int, int, str]:
        """Where the part ends, where the next one begins, and what closes this one."""
        if inside is not None and inside.after <= end:  # it ends in this part, by its own last line
            for pattern in (_PARAGRAPH, _LINE):
                found = self._last(pattern, inside.after, end)
                if found is not None and not any(each.start < found[0] < each.after for each in self._blocks):
                    return *found, ""
            return inside.after, inside.after, ""
        block = inside or self._inside(end) or next((b for b in self._blocks if b.start < end < b.after), None)
        if block is not None and block is not inside and block.start > position:
            fits = size_of(self._text[block.start : block.after], self._unit) <= self._limit
            body_cut = self._line_before(block.body, end - self._closing(block))
            if fits or body_cut is None:
                return block.start, block.start, ""  # before the block, which goes on whole
        if block is not None and (inside is not None or block.start <= position or end > block.body):
            return self._cut_code(position, end, block)
        for pattern in (_PARAGRAPH, _LINE, _SENTENCE, _WORD):
            found = self._last(pattern, position, end)
            if found is not None and (pattern is _WORD or found[0] - position >= (end - position) // _LEAST):
                return *found, ""
        cut = self._grapheme(position, end)
        return cut, cut, ""

    def _cut_code(self, position: int, end: int, block: _Code) -> tuple[int, int, str]:
        tail = f"\n{block.fence}"
        end = min(self._back(position, end, size_of(tail, self._unit)), block.end)
        start = max(position, block.body)
        cut = self._line_before(start, end)
        if cut is not None:  # what is closed by its last line is closed already
            return cut, block.after if cut + 1 >= block.end else cut + 1, tail
        cut = self._grapheme(position, max(end, position + 1))
        return cut, block.after if cut >= block.end else cut, tail

    def _line_before(self, start: int, end: int) -> int | None:
        """The last end of a line between two places, with something before it."""
        found = self._text.rfind("\n", start, max(start, end) + 1)
        return found if found > start else None

    def _last(self, pattern: re.Pattern[str], position: int, end: int) -> tuple[int, int] | None:
        """The last place of that kind at which may be cut: where the part ends, and where the next one begins."""
        said = _SAID.search(self._text, position, end)
        if said is None:
            return None
        for found in reversed(list(pattern.finditer(self._text, position, min(len(self._text), end + 1)))):
            start = found.start()
            if said.start() < start <= end and self._may_cut(start):
                return start, self._behind(pattern, found)
        return None

    def _behind(self, pattern: re.Pattern[str], found: re.Match[str]) -> int:
        """Where the next part begins: an indented line keeps what it is indented by."""
        whole = pattern.match(self._text, found.start()) or found
        if pattern in (_PARAGRAPH, _LINE):
            return self._text.rfind("\n", whole.start(), whole.end()) + 1
        return whole.end()

    def _may_cut(self, place: int) -> bool:
        number = bisect_right(self._starts, place) - 1
        if number >= 0:
            start, end = self._whole[number]
            if start < place < end and size_of(self._text[start:end], self._unit) <= self._limit:
                return False
        return not self._is_in_grapheme(place)

    def _grapheme(self, position: int, end: int) -> int:
        """The last place up to `end` that is in no grapheme, and in no link that could go on whole."""
        number = bisect_right(self._starts, end) - 1
        if number >= 0:
            start, stop = self._whole[number]
            if position < start < end < stop and size_of(self._text[start:stop], self._unit) <= self._limit:
                return start
        for place in range(end, max(position, end - _WINDOW), -1):
            if not self._is_in_grapheme(place):
                return place
        return end

    def _is_in_grapheme(self, place: int) -> bool:
        start = max(0, place - _WINDOW)
        for found in regex.finditer(r"\X", self._text[start : place + _WINDOW]):
            if found.start() + start < place < found.end() + start:
                return True
            if found.end() + start >= place:
                return False
        return False

    def _inside(self, place: int) -> _Code | None:
        """The block of code in whose lines a place is."""
        return next((block for block in self._blocks if block.body <= place < block.end), None)

    def _reach(self, position: int, room: int) -> int:
        """How far a part can reach that begins there; one character at least."""
        if self._unit == "characters":
            return min(len(self._text), position + max(1, room))
        sizes = list(accumulate(map(_SIZES[self._unit], self._text[position : position + max(1, room)])))
        return position + max(1, bisect_right(sizes, room))

    def _back(self, position: int, end: int, units: int) -> int:
        """So many units before `end`."""
        while units > 0 and end > position + 1:
            end -= 1
            units -= _SIZES[self._unit](self._text[end])
        return end

    def _closing(self, block: _Code) -> int:
        return len(block.fence) + 1

    def _around(self, block: _Code) -> int:
        return size_of(block.opening, self._unit) + 1 + self._closing(block)


def _blocks(text: str) -> list[_Code]:
    """The fenced blocks of code of a text; one that is never closed goes to its end."""
    found: list[_Code] = []
    opened: re.Match[str] | None = None
    for line in _FENCE.finditer(text):
        fence, info = line[1], line[2]
        if opened is None:
            if not (fence[0] == "`" and "`" in info):
                opened = line
        elif fence[0] == opened[1][0] and len(fence) >= len(opened[1]) and not info.strip():
            found.append(_code(text, opened, line.start(), line.end()))
            opened = None
    if opened is not None:
        found.append(_code(text, opened, len(text), len(text)))
    return found


def _code(text: str, opened: re.Match[str], end: int, after: int) -> _Code:
    body = min(len(text), opened.end() + 1)
    return _Code(opened.start(), body, max(body, end), after, opened[0], opened[1])
