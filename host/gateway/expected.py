"""What a model call can use at most, read out of its body while that passes. Pure.

The tokens that go in are estimated from the bytes, those that come out are what the request allows itself. Only the
fields of the request itself count, however they are spelt, and of several the largest: what a prompt or a tool's schema
contains is none of them. What is not one JSON object in UTF-8 cannot be read, and says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

LARGEST_OUTPUT = 128_000
"""Tokens of an answer whose request does not say how long it may be: the longest that models of today give."""
_MOST_OUTPUT = 10**7
_SHORT_OUTPUT = 16  # what plain completions take where nothing is said
_NO_OUTPUT = ("embeddings", "embed", "embedContent", "batchEmbedContents")
_OUTPUT = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "num_predict"})
_TIMES = frozenset({"n", "best_of", "candidateCount", "candidate_count"})
_INNER = frozenset({"generationConfig", "generation_config", "options"})
_LONGEST_KEY = 256
_IN_STRING = re.compile(rb'[^"\\]*(?:\\[\s\S][^"\\]*)*')
_BLANKS = re.compile(rb"[ \t\r\n]*")
_WORD = re.compile(rb"[-+.0-9a-zA-Z]+")
_NUMBER = re.compile(rb"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")
_WORDS: Mapping[bytes, int | None] = {b"true": None, b"false": None, b"null": None}


class ExpectedOutput:
    """Feed it the body as it comes; `tokens` and `is_readable` are of what was fed."""

    def __init__(self, path: str) -> None:
        self._method = re.split(r"[/:]", path)[-1]
        is_plain = path.endswith("/completions") and not path.endswith("/chat/completions")
        self._default = _SHORT_OUTPUT if is_plain else LARGEST_OUTPUT
        self._rest = b""
        self._depth = 0
        self._keys = ["", "", ""]  # of the fields that are being read, by depth
        self._string: bytes | None = None  # the last one, if it can be a key
        self._in_long_string = False
        self._has_begun = self._is_broken = False
        self._outputs: list[float] = []
        self._times = 1.0

    @property
    def is_readable(self) -> bool:
        """Whether all of it was one JSON object."""
        whole = self._has_begun and self._depth == 0 and not self._in_long_string
        return whole and not self._is_broken and not self._rest.strip()

    def tokens(self, largest: int = LARGEST_OUTPUT) -> int:
        """The most that may come out. `largest` is what the model gives where the request does not say how much."""
        if self._method in _NO_OUTPUT:
            return 0
        default = min(largest, self._default)
        said = max(self._outputs, default=default)
        return int(min(_MOST_OUTPUT, (said if said >= 0 else default) * max(1.0, self._times)))

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the body. Never raises."""
        text, at = self._rest + chunk, 0
        self._rest = b""
        while at < len(text) and not self._is_broken:
            at = self._long_string(text, at) if self._in_long_string else self._next(text, at)

    def _next(self, text: bytes, at: int) -> int:
        """Read what stands there; where it ends, or the end of the text when the rest of it is still to come."""
        start = _BLANKS.match(text, at).end()  # type: ignore[union-attr]  # it matches everywhere
        if start == len(text):
            return start
        sign = text[start : start + 1]
        if self._has_begun and self._depth == 0:
            self._is_broken = True  # something behind the object
            return start
        if sign == b'"':
            end = _IN_STRING.match(text, start + 1).end()  # type: ignore[union-attr]
            if end < len(text) and text[end : end + 1] == b'"':
                inner = text[start + 1 : end]
                self._string = inner if len(inner) <= _LONGEST_KEY else None
                return end + 1
            if len(text) - start <= _LONGEST_KEY:
                self._rest = text[start:]
                return len(text)
            self._in_long_string, self._string = True, None
            return start + 1
        if sign in (b"{", b"["):
            if not self._has_begun and sign == b"[":
                self._is_broken = True
            self._has_begun = True
            self._depth += 1
            if self._depth < len(self._keys):
                self._keys[self._depth] = ""
            return start + 1
        if not self._has_begun:
            self._is_broken = True
        elif sign in (b"}", b"]"):
            self._depth -= 1
        elif sign == b":":
            if self._depth < len(self._keys):
                self._keys[self._depth] = self._key()
        elif sign != b",":
            return self._word(text, start)
        return start + 1

    def _word(self, text: bytes, start: int) -> int:
        word = _WORD.match(text, start)
        if word is None or (word.end() == len(text) and len(text) - start > _LONGEST_KEY):
            self._is_broken = True
            return start
        if word.end() == len(text):
            self._rest = text[start:]
            return len(text)
        if _NUMBER.fullmatch(word[0]) is not None:
            self._number(float(word[0]))
        elif word[0] not in _WORDS:
            self._is_broken = True
        return word.end()

    def _number(self, value: float) -> None:
        if self._depth == 1:
            name = self._keys[1]
        elif self._depth == 2 and self._keys[1] in _INNER:
            name = self._keys[2]
        else:
            return
        if name in _OUTPUT:
            self._outputs.append(value)
        elif name in _TIMES:
            self._times = max(self._times, min(value, 1000.0))

    def _key(self) -> str:
        try:
            return str(json.loads(b'"%b"' % (self._string or b"")))
        except ValueError:
            self._is_broken = True
            return ""

    def _long_string(self, text: bytes, at: int) -> int:
        end = _IN_STRING.match(text, at).end()  # type: ignore[union-attr]
        if end == len(text):
            return end
        if text[end : end + 1] == b"\\":  # its second half is still to come
            self._rest = text[end:]
            return len(text)
        self._in_long_string = False
        return end + 1
