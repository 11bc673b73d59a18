"""What a service says of a refusal, made fit for logs, rows and people: without its key, however that is written. Pure.

A service may repeat the key that it refused, and may write it as anything can be written: in JSON or URL escapes, in
base64, in hexadecimal. And it may repeat keys that are not ours: what looks like one goes, too.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote

MARK = "[key]"
_SHORTEST = 6  # of what is looked for in base64: less would be found everywhere
_LOOKS_LIKE_A_KEY = re.compile(
    r"(?i:\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}"
    r"|\b(?:sk|pk|rk|xai|gsk|hf|ghp|gho|ghs|glpat|xox[a-z])[-_][\w-]{8,}"
    r"|\bAIza[\w-]{20,}|\bAKIA[A-Z0-9]{12,}|\beyJ[\w-]{4,}\.[\w-]{4,}(?:\.[\w-]*)?"
    r"|(?i:(?<=key=)|(?<=token=)|(?<=secret=)|(?<=password=))[^\s&\"'<>]{4,}"
)


def without_key(text: str, key: str | None) -> str:
    """The text without that key, in any writing of it."""
    if not key:
        return text
    for pattern in _writings(key):
        text = pattern.sub(MARK, text)
    return text


def without_keys(text: str) -> str:
    """Returns the text without anything that looks like a key."""
    return _LOOKS_LIKE_A_KEY.sub(MARK, text)


@lru_cache(maxsize=64)
def _writings(key: str) -> tuple[re.Pattern[str], ...]:
    # A row of backslashes is looked at from its beginning alone: from each of them that takes the square of its length.
    each_character = _character(key[0], r"(?<!\\)") + "".join(map(_character, key[1:]))
    return (re.compile(each_character, re.IGNORECASE), *(re.compile(re.escape(text)) for text in _encodings(key)))


def _character(character: str, before: str = "") -> str:
    """One character as itself, or in the escapes of JSON, URLs and HTML; `before` their backslashes stands that."""
    code, row = ord(character), rf"{before}\\+"
    escapes = {re.escape(character), f"{row}u00{code:02x}", f"{row}x{code:02x}", f"%(?:25)?{code:02x}"}
    escapes |= {f"&#0*{code};", f"&#x0*{code:x};"}
    if character == "/":
        escapes.add(f"{row}/")
    return f"(?:{'|'.join(sorted(escapes, key=len, reverse=True))})"


def _encodings(key: str) -> Iterator[str]:
    data = key.encode()
    yield data.hex()
    yield data.hex().upper()
    yield key[::-1]
    for before in (b"", b"-", b"--"):  # base64 writes three bytes in four characters, from wherever the key begins
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(before + data).decode("ascii").rstrip("=")
            first = {0: 0, 1: 2, 2: 3}[len(before)]  # what the bytes before it have a part in
            last = len(text) if (len(before) + len(data)) % 3 == 0 else len(text) - 1
            if last - first >= _SHORTEST:
                yield text[first:last]
                yield quote(text[first:last], safe="")


class WithoutKey:
    """Takes a key out of an answer that streams by, in the writings that services use. Its length does not change.

    Only an end that may be the beginning of the key is kept back until more comes.
    """

    def __init__(self, key: str) -> None:
        self._needles = tuple(text for text in _whole_writings(key) if len(text) >= _SHORTEST_PASSING)
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """What of it may pass by now."""
        data = self._rest + data
        for needle in self._needles:
            if needle in data:
                data = data.replace(needle, b"*" * len(needle))
        kept = max((_begun(data, needle) for needle in self._needles), default=0)
        self._rest = data[len(data) - kept :]
        return data[: len(data) - kept]

    def finish(self) -> bytes:
        """What was kept back, when nothing more comes."""
        rest, self._rest = self._rest, b""
        return rest


_SHORTEST_PASSING = 8
"""Of what is taken out of answers: a shorter text is also in them by chance."""


def _begun(data: bytes, needle: bytes) -> int:
    """How many bytes at the end of the data are the beginning of a needle that is not whole yet."""
    start = max(0, len(data) - len(needle) + 1)
    while (start := data.find(needle[:1], start)) >= 0:
        if needle.startswith(data[start:]):
            return len(data) - start
        start += 1
    return 0


@lru_cache(maxsize=64)
def _whole_writings(key: str) -> tuple[bytes, ...]:
    """The key as it is and in the usual codings, each character in the same one."""
    codes = [ord(character) for character in key]
    texts = {
        key,
        quote(key, safe=""),
        "".join(f"%{code:02X}" for code in codes),
        "".join(f"%{code:02x}" for code in codes),
    }
    texts |= {
        "".join(f"\\u{code:04x}" for code in codes),
        "".join(f"\\u{code:04X}" for code in codes),
        *_encodings(key),
    }
    return tuple(sorted((text.encode() for text in texts), key=len, reverse=True))
