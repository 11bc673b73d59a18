"""What is kept of the text of an event. Pure."""

from __future__ import annotations

_CUT_NOTE = "\n[the rest of this message was longer than allowed and was cut]"
_PREVIEW = 60
_PREVIEWED = 400
"""Characters of a text that are looked at for its preview: it may begin with a lot of space."""


def whole(text: str) -> str:
    """Text that can be stored: half characters (lone surrogates) become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def cut(text: str, longest: int) -> str:
    """At most `longest` characters of a text, with a note where something is missing."""
    return text if len(text) <= longest else text[:longest] + _CUT_NOTE


def preview(text: str) -> str:
    """The beginning of a text in one line, for lists."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:_PREVIEWED]).split())[:_PREVIEW]
