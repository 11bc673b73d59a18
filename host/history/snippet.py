"""The part of a text that shows why it was found, with marks. Pure.

One call takes time linear in the text: a phrase is looked for by its first words, and so many matches are enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

from host.history.cjk import INDEXED_CHARACTERS, has_runs
from host.history.query import Term, has_word
from shared_schema.dataclass import dataclass
from shared_schema.text import decomposed

WIDTH = 160
_LEAD = 50
_MAX_MARKS = 20
_MAX_WORDS = 20  # of a phrase; at each place of the text as many words are compared


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of text on one line; `marks` are beginning and end of what was found in it, in characters."""

    text: str
    marks: tuple[tuple[int, int], ...]


def snippet(text: str, terms: Sequence[Term]) -> Snippet:
    """Returns the text around the first hit; the beginning of the text when there is none."""
    text = text[:INDEXED_CHARACTERS]
    found = sorted(_found(text, terms))
    begin = max(0, found[0][0] - _LEAD) if found else 0
    if begin:
        space = text.find(" ", begin, found[0][0])
        begin = space + 1 if space >= 0 else begin
    end = min(len(text), begin + WIDTH)
    lead, tail = "…" if begin else "", "…" if end < len(text) else ""
    shown = "".join(" " if character.isspace() else character for character in text[begin:end])
    marks: list[tuple[int, int]] = []
    for first, last in found:
        if last <= end and (not marks or first - begin + len(lead) >= marks[-1][1]):
            marks.append((first - begin + len(lead), last - begin + len(lead)))
    return Snippet(f"{lead}{shown}{tail}", tuple(marks[:_MAX_MARKS]))


def _found(text: str, terms: Sequence[Term]) -> Iterator[tuple[int, int]]:
    folded = _folded(text)
    for term in terms:
        wanted = _folded(term.text)
        matches = list(islice(re.finditer(_pattern(wanted, term.prefix), folded), _MAX_MARKS))
        for match in matches or islice(re.finditer(re.escape(wanted), folded), _MAX_MARKS):
            if match.end() > match.start():
                yield match.span()


def _pattern(wanted: str, prefix: bool) -> str:
    """The words in a row with anything but letters between them, or the very characters."""
    if has_runs(wanted) or not has_word(wanted):
        return re.escape(wanted)
    words = r"[\W_]+".join(map(re.escape, re.findall(r"[^\W_]+", wanted)[:_MAX_WORDS]))
    return rf"(?<![^\W_]){words}" + ("" if prefix else r"(?![^\W_])")


def _folded(text: str) -> str:
    """Small letters without diacritics, character by character."""
    return text.lower() if text.isascii() else "".join(map(_fold, text))


@lru_cache(maxsize=4096)
def _fold(character: str) -> str:
    return decomposed(character, 1)[0].lower()[0]
