"""Words of strangers in a message of the host's own, on a platform that shows Markdown. Pure.

A stranger's words must not hide a link behind a word, swallow the lines below them as code, or fade out by a line
through them: what a card shows of them is what a person decides on.
"""

from __future__ import annotations

import re

_READ_AS_MARKDOWN = re.compile(r"[\\`*_~\[\]<>|&]")


def literal(text: str) -> str:
    """Lines that begin with words of ours, as Markdown that shows them letter for letter."""
    return _READ_AS_MARKDOWN.sub(r"\\\g<0>", text)
