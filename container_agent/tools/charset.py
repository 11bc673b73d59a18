"""In which encoding a page is written, as browsers find it out (WHATWG: mark, header, `<meta>`, a guess). Pure."""

from __future__ import annotations

import codecs
import re

from shared_schema.foreign_text import NO_CHARSETS, encoding_of

_LOOKED_AT = 1024  # bytes in which a page must name its encoding
_META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)
_XML = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)

# What pages call by an old name and mean as browsers read it: the larger set of the same family.
_MEANT = {
    "ascii": "windows-1252",
    "iso8859-1": "windows-1252",
    "iso8859-9": "windows-1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "utf-16": "utf-16-le",
}
_NAMES = {
    "x-sjis": "cp932", "windows-31j": "cp932", "ks_c_5601-1987": "cp949", "windows-949": "cp949", "x-gbk": "gb18030",
    "x-euc-jp": "euc_jp", "x-x-big5": "big5hkscs", "unicode": "utf-16-le", "x-mac-roman": "mac_roman",
    "dos-874": "cp874", "windows-874": "cp874", "iso-8859-8-i": "iso8859-8", "unicode-1-1-utf-8": "utf-8",
}  # fmt: skip
_GUESS = "windows-1252"


def decoded(data: bytes, declared: str | None, *, is_whole: bool) -> str:
    """The text of a page. `declared` is the charset of its header, if it has one; never fails."""
    mark, encoding = encoding_of(data)
    if mark:
        return data[len(mark) :].decode(encoding, "replace")
    for name in (declared, _named(data)):
        if name is not None and (known := _known(name)) is not None:
            return data.decode(known, "replace")
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        return decoder.decode(data, final=is_whole)  # one that was cut may end within a character
    except UnicodeDecodeError:
        return data.decode(_GUESS, "replace")


def is_wide(data: bytes, declared: str | None) -> bool:
    """Whether the text has two bytes a character, so that a zero byte in it is no sign of anything else."""
    mark, encoding = encoding_of(data)
    return "16" in encoding if mark else "16" in ((_known(declared) if declared else None) or "")


def _named(data: bytes) -> str | None:
    """The encoding that a page names itself, which is no wide one: it could not be read so far if it were."""
    head = data[:_LOOKED_AT]
    found = _XML.search(head) or _META.search(head)
    if found is None:
        return None
    name = found[1].decode("ascii")
    return "utf-8" if "16" in (_known(name) or "") else name


def _known(name: str) -> str | None:
    """Python's name of an encoding that is text; None for one it does not know."""
    plain = name.strip().strip("\"'").lower()
    try:
        found = codecs.lookup(_NAMES.get(plain, plain))
        "".encode(found.name)  # not one of those that only turn bytes into bytes
    except (LookupError, ValueError):
        return None
    return None if found.name in NO_CHARSETS else _MEANT.get(found.name, found.name)
