"""Files as other systems write them: how their text is encoded, and how their names are stored. Pure.

Files that people bring come from editors of every system: with a byte order mark, in UTF-16 (what PowerShell's `>`
writes), with lines that end in CRLF. One mark at the beginning says how the text is encoded and is no part of it.
"""

from __future__ import annotations

import codecs

from shared_schema.text import composed

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
MARK = "\ufeff"
NO_CHARSETS = frozenset(
    {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "unicode-escape", "raw-unicode-escape"}
    | {"mbcs", "oem"}
)
"""What Python can decode, by its names, and no foreign text is written in. A megabyte of `punycode` takes minutes."""
_MAX_NAME = 1_000


def encoding_of(data: bytes) -> tuple[bytes, str]:
    """The byte order mark that a text begins with, empty without one, and the encoding it stands for (UTF-8)."""
    for mark, name in _MARKS:
        if data.startswith(mark) and (name == "utf-8" or len(data) > len(mark)):
            return mark, name
    return b"", "utf-8"


def decoded(data: bytes) -> str:
    """The text of a file, without its byte order mark. Raises `UnicodeDecodeError`."""
    mark, encoding = encoding_of(data)
    return data[len(mark) :].decode(encoding)


def without_mark(text: str) -> str:
    """A text that was decoded already, without the byte order mark at its beginning."""
    return text.removeprefix(MARK)


def same_name(one: str, other: str) -> bool:
    """Whether two names differ at most in how their accents are stored: composed (NFC) or decomposed (NFD)."""
    return one == other or composed(one, _MAX_NAME) == composed(other, _MAX_NAME)
