"""Titles of conversations: what may stand in one, and the lineage `name`, `name #2`, `name #3`. Pure.

A title has at most 100 characters, its number included: where `name #10` would be too long, the name gives way. So what
belongs to a lineage is asked with `numbered`, and not by cutting numbers off.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from shared_schema.errors import InvalidValue
from shared_schema.text import JOINERS, composed, is_shown

MAX = 100
_LOOKED_AT = 1_000
"""Characters of a text, behind leading space, that are looked at for a title: much of them may be unseen."""
_WORDS = 60
_DIGITS = 9
_LARGEST_SUFFIX = len(" #") + _DIGITS

# Control characters, those that are seen only by what they do (zero width, direction), and halves of characters.
_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs"})
# What is drawn as nothing and is yet no such character: joiners and fillers (Unicode: Default_Ignorable_Code_Point).
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
_QUOTES = frozenset(
    "\"'\u201a\u201e\u201f\u300c\u300d\u300e\u300f\u300a\u300b\u3008\u3009\uff02\uff07\u301d\u301e\u301f"
)
_LABEL = re.compile(
    r"^[#*_`\s]*(?:title|titel|titre|t\u00edtulo|titolo|tytu\u0142|\u0437\u0430\u0433\u043e\u043b\u043e\u0432\u043e\u043a|"
    r"\u6807\u9898|\u6a19\u984c|\u30bf\u30a4\u30c8\u30eb|\uc81c\ubaa9)[*_`]*\s{0,3}[:\uff1a][*_`\s]*",
    re.IGNORECASE,
)
"""What models write in front of a title in the languages that they are asked in most."""
_ZERO_WIDTH_JOINER = "\u200d"
_CONTINUES = frozenset({"Mn", "Mc", "Me"})
_SKIN_TONES = range(0x1F3FB, 0x1F400)


def clean(text: str) -> str:
    """The text as a title. Raises `InvalidValue` when nothing of it is left."""
    seen = _seen(text)
    title = cut(seen, MAX) or seen[:MAX].rstrip()  # one character with more marks than a title has room for
    if not title:
        raise InvalidValue("a title needs at least one character that can be seen")
    return title


def first_words(text: str) -> str | None:
    """The beginning of a message as a title, whole words of it; None when there is nothing to see in it."""
    words = _seen(text)
    if len(words) <= _WORDS:
        return words or None
    beginning = cut(words, _WORDS - 1)
    if words[len(beginning)] != " " and " " in beginning:
        beginning = beginning[: beginning.rindex(" ")]
    return beginning.rstrip() + "…"


def of_model(text: str) -> str:
    """A title as a model writes it, without what models put around one: `Title:`, marks of Markdown, quotation marks.

    Raises `InvalidValue` when nothing of it is left.
    """
    lines = (line.strip() for line in text.lstrip()[:_LOOKED_AT].splitlines())
    title = _seen(next((line for line in lines if line.strip("#*_`- ")), ""))
    before = None
    while title != before:
        before = title
        title = _unquoted(_LABEL.sub("", title).strip("#*_` ").rstrip(". "))
    return clean(title)


def is_cut(text: str) -> bool:
    """Whether a title that a person wants is longer than one can be."""
    seen = _seen(text)
    return len(cut(seen, MAX)) < len(seen) or len(text.lstrip()) > _LOOKED_AT


def _unquoted(title: str) -> str:
    """Without quotation marks around the whole, or one that has lost its partner; those within it stay."""
    marks = [number for number, character in enumerate(title) if _is_quote(character)]
    at_start = bool(marks) and marks[0] == 0
    at_end = bool(marks) and marks[-1] == len(title) - 1
    if at_start and at_end and len(marks) == 2:
        return title[1:-1].strip()
    if len(marks) == 1 and at_start:
        return title[1:].strip()
    if len(marks) == 1 and at_end and title[-1] not in "'\u2019":  # it may be an apostrophe
        return title[:-1].strip()
    return title


def _is_quote(character: str) -> bool:
    return unicodedata.category(character) in ("Pi", "Pf") or character in _QUOTES


def base_of(title: str) -> str:
    """The name without its number."""
    return _parts(title)[0]


def number_of(title: str) -> int:
    """The number in a lineage: 1 for a name that stands alone."""
    return _parts(title)[1]


def numbered(base: str, number: int) -> str:
    """The title of that number in a lineage, within the limit."""
    suffix = "" if number < 2 else f" #{number}"
    return cut(base, MAX - len(suffix)) + suffix


def span(base: str) -> tuple[str, str]:
    """Two texts between which, in the order of code points, all numbered titles of a lineage stand."""
    if len(base) + _LARGEST_SUFFIX <= MAX:
        return f"{base} #", f"{base} #:"  # the sign behind 9
    beginning = cut(base, MAX - _LARGEST_SUFFIX)
    return beginning, f"{beginning}\U0010ffff"


def newest(base: str, titles: Iterable[str]) -> str | None:
    """The title of a lineage with the highest number; None when none of them is of that lineage."""
    found = max((number for title in titles if (number := number_in(base, title)) is not None), default=None)
    return None if found is None else numbered(base, found)


def number_in(base: str, title: str) -> int | None:
    """The number of a title in the lineage of a name; None for a title that is not of it."""
    number = number_of(title)
    return number if numbered(base, number) == title else None


def following(title: str, titles: Iterable[str]) -> str:
    """Returns the next of a title's lineage: behind the newest, or the name itself while it is free."""
    base = base_of(title)
    last = newest(base, titles)
    return base if last is None else numbered(base, number_of(last) + 1)


def cut(text: str, length: int) -> str:
    """The text, or the beginning of it: whole characters, and no space at the end."""
    end = length
    while 0 < end < len(text) and (_continues(text[end]) or text[end - 1] == _ZERO_WIDTH_JOINER):
        end -= 1
    return text[:end].rstrip()


def _parts(title: str) -> tuple[str, int]:
    """Name and number of a title."""
    base, mark, digits = title.rpartition(" #")
    is_number = digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS and digits[0] != "0"
    if not (mark and base and is_number and digits != "1"):
        return title, 1
    return base, int(digits)


def _continues(character: str) -> bool:
    """Whether it is a part of the character before it: an accent, the colour of a hand, what joins the next one."""
    return unicodedata.category(character) in _CONTINUES or character in JOINERS or ord(character) in _SKIN_TONES


def _seen(text: str) -> str:
    """What can be seen of a text, on one line."""
    beginning = text.lstrip()[:_LOOKED_AT]
    spaced = "".join(" " if character.isspace() else character for character in beginning)
    seen = "".join(
        c for c in spaced if (unicodedata.category(c) not in _UNSEEN_CATEGORIES or is_shown(c)) and c not in _UNSEEN
    )
    words = (word.strip(JOINERS) for word in composed(seen, _LOOKED_AT).split())  # they join what can be seen
    return " ".join(word for word in words if word)
