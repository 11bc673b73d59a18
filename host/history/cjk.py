"""Chinese, Japanese and Korean text as words can be looked up in it. Pure.

These scripts put no spaces between words, so a tokenizer sees a whole sentence as one word. Each run of such characters
becomes overlapping pairs and its last character alone: `中文字` becomes `中文 文字 字`. A run of two or more characters
is then a phrase of pairs, and a single one the beginning of a pair.
"""

from __future__ import annotations

import re

from shared_schema.text import composed

INDEXED_CHARACTERS = 20_000
"""So much of one text is looked up; the rest is only shown."""

# Letters that SQLite's tokenizer (Unicode 6.1) knows: kana, CJK ideographs with extensions A to D, Hangul syllables.
_RUN = re.compile(
    "[\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4db5\u4e00-\u9fcc"
    "\uac00-\ud7a3\uf900-\ufa6d\ufa70-\ufad9\uff66-\uff9f\U00020000-\U0002a6d6\U0002a700-\U0002b734"
    "\U0002b740-\U0002b81d]+"
)


def has_runs(text: str) -> bool:
    """Whether there is anything to be taken apart."""
    return not text.isascii() and _RUN.search(text) is not None


def spaced(text: str) -> str:
    """The text with every run taken apart, as it is stored for looking up."""
    return _RUN.sub(lambda run: f" {_pairs(run[0])} {run[0][-1]} ", composed(text, INDEXED_CHARACTERS))


def asked(text: str) -> tuple[str, bool]:
    """Returns the same for a query, and whether its last word is only the beginning of one.

    The last run of it may go on in the text that is looked for; the others end there, too.
    """
    text = composed(text, INDEXED_CHARACTERS)
    runs = list(_RUN.finditer(text))
    if not runs or runs[-1].end() != len(text.rstrip()):
        return spaced(text), False
    last = runs[-1]
    tail = last[0] if len(last[0]) == 1 else _pairs(last[0])
    return f"{spaced(text[: last.start()])} {tail}", len(last[0]) == 1


def _pairs(run: str) -> str:
    return " ".join(run[number : number + 2] for number in range(len(run) - 1))
