"""The parts of a mail (RFC 2045, 2046), read within bounds. Pure; takes any bytes.

Python's own parser follows parts within parts as deep as they go, keeps an object for each of millions of empty ones,
and looks at every line once for each boundary that is open. Here a mail has at most so many headers, parts and levels:
time and memory grow with its length alone. What is beyond the bounds is left out, and that is said.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import quopri
import re
from collections.abc import Iterator
from dataclasses import field
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message

from shared_schema.dataclass import dataclass
from shared_schema.foreign_text import NO_CHARSETS

MAX_HEAD = 256 * 1024
MAX_HEADERS = 500
MAX_DEPTH = 10
MAX_PARTS = 100
_LONGEST_HEADER = 20_000
_LONGEST_TYPE = 2_000
"""Characters of a header with parameters that are looked at."""
_LONGEST_DECODED = 2_000
_LINE = re.compile(rb"\r?\n")
_NAME = re.compile(r"[!-9;-~]{1,80}")
# Codecs of Python that are no character sets of mails, or take quadratic time.


class HeadTooLong(ValueError):
    """The headers of a mail have no end."""


@dataclass(frozen=True, slots=True)
class MailHead:
    """The headers of a mail or a part: names in small letters, values unfolded, from the topmost."""

    fields: tuple[tuple[str, str], ...]

    def first(self, name: str) -> str:
        """The topmost header of a name; empty if there is none."""
        return next((value for other, value in self.fields if other == name), "")

    def all(self, name: str) -> list[str]:
        """All headers of a name."""
        return [value for other, value in self.fields if other == name]

    def content_type(self) -> str:
        """`text/plain` and the like, in small letters."""
        return self._typed("content-type").get_content_type()

    def parameter(self, header: str, name: str) -> str | None:
        """A parameter of a header, such as the `boundary` of `content-type`."""
        try:
            value = self._typed(header).get_param(name, header=header, unquote=True)
        except (ValueError, TypeError, LookupError, UnicodeError):
            return None
        if isinstance(value, tuple):  # RFC 2231: charset, language, text
            charset, _, text = value
            return str(text) if not charset else decoded(str(text).encode("latin-1", "replace"), str(charset))
        return None if value is None else str(value)

    def _typed(self, header: str) -> Message[str, str]:
        message: Message[str, str] = Message()
        message[header] = self.first(header)[:_LONGEST_TYPE]
        return message


@dataclass(frozen=True, slots=True)
class Part:
    """A part that has no parts of its own. `data` is decoded."""

    head: MailHead
    data: bytes

    def name(self) -> str | None:
        """The name of a file, where it is one."""
        name = self.head.parameter("content-disposition", "filename") or self.head.parameter("content-type", "name")
        return None if not name else words(name)

    def is_attached(self) -> bool:
        """Whether it is a file, and not something to be read in place."""
        disposition = self.head.first("content-disposition").strip().lower()
        return disposition.startswith("attachment") or bool(self.name())

    def text(self) -> str:
        """Its data as text."""
        return decoded(self.data, self.head.parameter("content-type", "charset"))


@dataclass(slots=True)
class PartWalk:
    """The parts of a mail in their order. `is_cut`: there were more of them, or deeper ones, than are taken."""

    parts: list[Part] = field(default_factory=list)
    is_cut: bool = False

    def add(self, head: MailHead, body: bytes, depth: int) -> None:
        """Take a part, or what is in it."""
        if len(self.parts) >= MAX_PARTS:
            self.is_cut = True
            return
        kind = head.content_type()
        boundary = head.parameter("content-type", "boundary") if kind.startswith("multipart/") else None
        if not boundary:
            self.parts.append(Part(head, _transfer_decoded(head, body)))
        elif depth >= MAX_DEPTH:
            self.is_cut = True
        else:
            for raw in _split(body, boundary.encode("utf-8", "replace")):
                if len(self.parts) >= MAX_PARTS:
                    self.is_cut = True
                    return
                try:
                    inner, rest = read_head(raw)
                except HeadTooLong:
                    self.is_cut = True
                else:
                    self.add(inner, rest, depth + 1)


def read_head(data: bytes) -> tuple[MailHead, bytes]:
    """The headers of a mail or a part, and what stands behind them. Raises `HeadTooLong`."""
    ends = [(data.find(mark), len(mark)) for mark in (b"\r\n\r\n", b"\n\n")]
    if data.startswith((b"\r\n", b"\n")):
        return MailHead(()), data[data.index(b"\n") + 1 :]
    place, length = min(((at, size) for at, size in ends if at >= 0), default=(len(data), 0))
    if place > MAX_HEAD:
        raise HeadTooLong(f"its headers are longer than {MAX_HEAD} bytes")
    lines: list[list[str]] = []
    for line in _LINE.split(data[:place]):
        text = line.decode("utf-8", "replace")
        if text[:1] in (" ", "\t") and lines:
            lines[-1].append(text.strip())
        else:
            lines.append([text])
    fields: list[tuple[str, str]] = []
    for parts in lines[:MAX_HEADERS]:
        name, colon, value = " ".join(parts).partition(":")
        if colon and _NAME.fullmatch(name.rstrip()):
            fields.append((name.rstrip().lower(), value.strip()[:_LONGEST_HEADER].replace("\0", "\ufffd")))
    return MailHead(tuple(fields)), data[place + length :]


def words(header: str) -> str:
    """A header for people: its encoded words (RFC 2047) decoded."""
    text = header[:_LONGEST_DECODED]
    if "=?" not in text:
        return text
    try:
        pieces = decode_header(text)
    except (HeaderParseError, ValueError, binascii.Error):
        return text
    return "".join(piece if isinstance(piece, str) else decoded(piece, charset) for piece, charset in pieces)


def decoded(data: bytes, charset: str | None) -> str:
    """Bytes as text; an unknown character set is taken for UTF-8."""
    try:
        name = codecs.lookup(charset[:40]).name if charset else "utf-8"
    except (LookupError, ValueError):
        name = "utf-8"
    try:
        return data.decode("utf-8" if name in NO_CHARSETS else name, "replace")
    except (LookupError, ValueError):  # a codec of another kind than characters
        return data.decode("utf-8", "replace")


def _split(body: bytes, boundary: bytes) -> Iterator[bytes]:
    """What stands between the boundary lines of a multipart; an end that is missing is taken to be that of the data."""
    mark = b"--" + boundary
    start: int | None = None
    place = 0 if body.startswith(mark) else body.find(b"\n" + mark) + 1 or -1
    while place >= 0:
        if start is not None:
            yield body[start:place].removesuffix(b"\n").removesuffix(b"\r")
        behind = place + len(mark)
        if body.startswith(b"--", behind):
            return
        line_end = body.find(b"\n", behind)
        start = len(body) if line_end < 0 else line_end + 1
        place = body.find(b"\n" + mark, start - 1) + 1 or -1
    if start is not None and start < len(body):
        yield body[start:]


def _transfer_decoded(head: MailHead, body: bytes) -> bytes:
    match head.first("content-transfer-encoding").strip().lower():
        case "base64":
            # Only whole groups: what a server or a limit has cut off is no reason to lose the rest.
            digits = re.sub(rb"[^A-Za-z0-9+/]+", b"", body)
            return base64.b64decode(digits[: len(digits) // 4 * 4] + _padded(digits[len(digits) // 4 * 4 :]))
        case "quoted-printable":
            return quopri.decodestring(body)
        case _:
            return body


def _padded(rest: bytes) -> bytes:
    return b"" if len(rest) < 2 else rest + b"=" * (4 - len(rest))
