"""What is new in a mail: the text without the history that the mail program put under it. Pure.

Only what stands at the end is removed: a person who answers between the lines means the lines in between. A mail that
is nothing but quoted is left as it is.
"""

from __future__ import annotations

import re

from shared_schema.html_text import text_of

_MOST_LINES = 20_000
_LONGEST_INTRODUCTION = 3
"""Lines over which `On … Ann wrote:` may go."""
_SEPARATORS = (
    "-----original message-----", "----- original message -----", "-----ursprüngliche nachricht-----",
    "-------- original message --------", "-------- forwarded message --------", "________________________________",
    "-----message d'origine-----", "-----mensaje original-----", "begin forwarded message:",
)  # fmt: skip
_WROTE = (
    "wrote:",
    "schrieb:",
    "a écrit :",
    "a écrit:",
    "escribió:",
    "ha scritto:",
    "schreef:",
    "skrev:",
    "写道\uff1a",
    "写道:",
)
_OUTLOOK = re.compile(r"\*{0,2}(From|Von|De|Da|Van):\*{0,2} \S")
_OUTLOOK_NEXT = re.compile(r"\*{0,2}(Sent|Date|Gesendet|Datum|Envoyé|Enviado|Inviato|To|An|Verzonden):\*{0,2} ")
# Where the mail programs begin the history in HTML.
_MARKS = re.compile(
    r"""<(?:div|blockquote|hr)\s[^>]{0,200}?(?:class=["']?(?:gmail_quote|yahoo_quoted|moz-cite-prefix|protonmail_quote)"""
    r"""|id=["']?(?:divRplyFwdMsg|appendonsend|mail-editor-reference-message-container|reply-intro)"""
    r"""|type=["']?cite)""",
    re.IGNORECASE,
)


def new_text(text: str) -> str:
    """The text without its quoted end and without the signature."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n", _MOST_LINES)
    end = _separator(lines)
    end = _without_quoted_end(lines, end)
    end = _signature(lines, end)
    kept = "\n".join(lines[:end]).strip()
    return kept or text.strip()


def new_html(html: str) -> str:
    """The text of a mail in HTML without its history."""
    found = _MARKS.search(html)
    if found is not None and (kept := text_of(html[: found.start()])):
        return new_text(kept)
    return new_text(text_of(html))


def _separator(lines: list[str]) -> int:
    """Where a line says that the history begins; the number of lines if none does."""
    for number, line in enumerate(lines):
        said = line.strip()[:80].lower()
        if said in _SEPARATORS and number > 0:
            return number
        if _OUTLOOK.match(line) and any(_OUTLOOK_NEXT.match(after) for after in lines[number + 1 : number + 4]):
            return number
    return len(lines)


def _without_quoted_end(lines: list[str], end: int) -> int:
    """Where the lines that begin with `>` at the end begin, and what introduces them."""
    place = end
    while place > 0 and (not lines[place - 1].strip() or lines[place - 1].lstrip().startswith(">")):
        place -= 1
    if not any(line.lstrip().startswith(">") for line in lines[place:end]):
        # Without `>`, some programs still introduce what follows.
        for number in range(max(0, end - 200), end):
            if _introduces(lines[number]) and lines[number].lstrip().startswith(("On ", "Am ", "Le ", "El ", "Il ")):
                return number
        return end
    if place > 0 and _introduces(lines[place - 1]):
        for number in range(place - 1, max(-1, place - 1 - _LONGEST_INTRODUCTION), -1):
            if not lines[number].strip():
                break
            place = number
    return place


def _introduces(line: str) -> bool:
    return line.rstrip()[-40:].lower().endswith(_WROTE)


def _signature(lines: list[str], end: int) -> int:
    """Where the signature begins, which stands behind `-- ` (RFC 3676)."""
    return next((number for number in range(end) if lines[number].rstrip("\n") in ("-- ", "--") and number > 0), end)
