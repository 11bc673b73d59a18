"""What is kept of the text of an event. Pure."""

from __future__ import annotations

from shared_schema.text import is_shown

_CUT_NOTE = "\n[the rest of this message was longer than allowed and was cut]"
# Without width or ink: soft hyphen, joiners, direction marks, fillers, the empty Braille cell, variation selectors.
_INVISIBLE = dict.fromkeys(
    (0xAD, 0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F),
     *range(0x2060, 0x2070), 0x2800, 0x3164, *range(0xFE00, 0xFE10), 0xFEFF, 0xFFA0)
)  # fmt: skip
_PREVIEW = 60
_PREVIEWED = 400
"""Characters of a text that are looked at for its preview: it may begin with a lot of space."""


def truncate(text: str, longest: int, name: str | None = None) -> str:
    """At most `longest` characters of a text and a note where something is missing.

    `name` is the file that has the whole text.
    """
    if len(text) <= longest:
        return text
    note = (
        _CUT_NOTE if name is None else f"\n[this message has {len(text):,} characters: all of it is in the file {name}]"
    )
    return text[:longest] + note


def is_blank(text: str) -> bool:
    """Whether there is nothing to see in a text: blanks of all kinds, and characters that only shape others."""
    return not text.strip() or (len(text) <= _PREVIEWED and not text.translate(_INVISIBLE).strip())


def preview(text: str) -> str:
    """The beginning of a text in one line, for lists."""
    return " ".join("".join(c if is_shown(c) else " " for c in text[:_PREVIEWED]).split())[:_PREVIEW]
