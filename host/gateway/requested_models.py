"""Which models a request may mean, read out of its path and its body while that passes. Pure.

For calls whose answer does not say it: one that was broken off before it began, or that was asked to leave it out. The
agent may name several, or spell a name so that it is hard to find: every text that can be one counts.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

_MOST = 100
_WORTH_WHILE = 4096
"""Bytes that are looked at together: what comes in tiny pieces is not looked at once for each."""
_OVERLAP = 2048
"""Bytes kept of what was read, longer than any spelling of a name."""
_BLANKS = b" \t\r\n"
_IN_PATH = re.compile(r"/models/([^/:]{1,200}):")
_IN_BODY = re.compile(rb'"model":"([^"\\]{1,200})"')
_ESCAPED = re.compile(rb"\\u00([2-7][0-9a-fA-F])")
"""ASCII that JSON need not escape, and no SDK does."""


class RequestedModels:
    """Feed it the body as it comes; `names` are those found so far, `_MOST` at most."""

    def __init__(self, path: str) -> None:
        self._rest = b""
        self._pending = bytearray()
        self._names = set(_IN_PATH.findall(unquote(path)))

    @property
    def names(self) -> frozenset[str]:
        """All that were found."""
        self._look()
        return frozenset(self._names)

    @property
    def are_too_many(self) -> bool:
        """Whether no honest request names so many."""
        return len(self._names) >= _MOST

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the body. Never raises."""
        self._pending += chunk.translate(None, _BLANKS)
        if len(self._pending) >= _WORTH_WHILE:
            self._look()

    def _look(self) -> None:
        text = self._rest + bytes(self._pending)
        self._pending.clear()
        self._rest = text[-_OVERLAP:]
        plain = text.replace(rb"\/", b"/")
        plain = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), plain) if b"\\u00" in plain else plain
        for match in _IN_BODY.finditer(plain):
            if self.are_too_many:
                return
            self._names.add(match[1].decode("utf-8", "replace"))
