"""Foreign text, before anything of Unicode is done to it. Pure.

`unicodedata.normalize` sorts the marks behind a letter by insertion: a letter with 40,000 marks takes 16 s, in one call
into C that holds the interpreter's lock, so that nothing else runs meanwhile. `casefold` and `lower` are linear, but
make up to three characters of one. So all code that brings foreign text into a form does it here: every function first
takes at most so many characters as its caller needs, and then does what costs a fixed time for each of them.

Nothing else calls `unicodedata.normalize`, `casefold` or `lower` on foreign text (tests/unit/test_foreign_data.py).
"""

from __future__ import annotations

import json
import re
import unicodedata
from functools import cache

MAX_MARKS = 30
"""Marks in a row that are kept: UAX #15 calls text with more of them not stream-safe, and no language has it."""

_WITH_MARKS = range(0x300, 0x20000)
"""Where Unicode has combining marks, and leaves room for more of them."""


JOINERS = "\u200c\u200d"
"""Zero-width (non-)joiner: invisible, and part of how Persian and Indic words and many emoji are written."""


def is_shown(character: str) -> bool:
    """Whether a character is printable, or joins printable ones."""
    return character.isprintable() or character in JOINERS


def is_all_shown(text: str) -> bool:
    """Whether every character of a text is printable, or joins printable ones."""
    return text.isprintable() or all(map(is_shown, text))


def composed(text: str, longest: int) -> str:
    """The first `longest` characters in form NFC. Of a row of combining marks the first 30 stay.

    The result may be a few characters longer where a character has no composed form.
    """
    text = text[:longest]
    # Once more behind it: some characters come apart into several marks.
    return text if text.isascii() else _few_marks(unicodedata.normalize("NFC", _few_marks(text)))


def decomposed(text: str, longest: int) -> str:
    """The first `longest` characters in form NFD, in the same way."""
    text = text[:longest]
    return text if text.isascii() else _few_marks(unicodedata.normalize("NFD", _few_marks(text)))


def folded(text: str, longest: int) -> str:
    """The first `longest` characters without case, to be compared with others that were folded here."""
    return text[:longest].casefold()


def one_line(text: str, longest: int) -> str:
    """The first `longest` characters behind leading space, on one line, without control characters."""
    beginning = text.lstrip()[:longest]
    return " ".join("".join(c if is_shown(c) else " " for c in beginning).split())


def without_lone_surrogates(text: str) -> str:
    """Text that can be stored and sent: half characters become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def printable(text: str) -> str:
    """The text with a question mark for every character that could control a terminal, hide, or begin a line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def escaped_json(line: str) -> str:
    """JSON on one line in which everything that does not print is escaped, so that nothing of it is lost."""
    return line if line.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in line)


def _escape(character: str) -> str:
    return json.dumps(character)[1:-1]


def _few_marks(text: str) -> str:
    return _marks().sub(r"\1", text)


@cache
def _marks() -> re.Pattern[str]:
    """A row of marks that is too long; the group is what stays of it. Linear: a class of characters and counts."""
    # What comes apart into marks alone is no mark by its own class (U+0F73).
    combining = [
        code
        for code in _WITH_MARKS
        if unicodedata.category(chr(code))[0] == "M"
        and unicodedata.combining(unicodedata.normalize("NFD", chr(code))[0])
    ]
    ranges: list[list[int]] = []
    for code in combining:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    mark = "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges) + "]"
    return re.compile(f"({mark}{{{MAX_MARKS}}}){mark}+")
