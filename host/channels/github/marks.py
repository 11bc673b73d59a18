"""The mark in our comments: an HTML comment, which is not shown, by which a comment is known after a crash. Pure."""

from __future__ import annotations

import hashlib
import re

_MARK = re.compile(r"<!-- dumbwaiter:[0-9a-f]{40} -->")


def mark_of(key: str) -> str:
    """The mark of the message with that key. The key itself would name a session."""
    return f"<!-- dumbwaiter:{hashlib.sha256(key.encode()).hexdigest()[:40]} -->"


def marked(text: str, mark: str) -> str:
    """The text with its mark. What looks like one in the text is taken out: it would make two messages one."""
    return f"{without_mark(text)}\n\n{mark}"


def mark_in(text: str) -> str | None:
    """The mark of a comment of ours."""
    found = _MARK.search(text)
    return None if found is None else found[0]


def without_mark(text: str) -> str:
    """The text without any mark."""
    return _MARK.sub("\n\n", text).strip() if "<!-- dumbwaiter:" in text else text
