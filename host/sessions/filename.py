"""File names that came from outside, made safe. Pure.

A safe name is one component, not hidden, at most 120 bytes, without separators, control or direction characters, and
no device on any system. Two attachments never share a name.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from shared_schema.text import JOINERS, composed, folded, is_shown

MAX_BYTES = 120
_LOOKED_AT = 1_000
_EXTENSION = 20
"""Characters of a name that are looked at: its beginning, and its end, which may be its extension."""
_FALLBACK = "file"
_FORBIDDEN = re.compile(r'[<>:"|?*]')
# Device names of Windows, with or without an extension: the folder may be on a mount shared with such a system.
_DEVICES = re.compile(r"(con|conin\$|conout\$|prn|aux|nul|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE)
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def safe_name(name: str, taken: frozenset[str] | set[str] = frozenset()) -> str:
    """A safe file name that resembles `name` and is not among `taken` (compared without case)."""
    last = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    if len(last) > _LOOKED_AT:
        last = last[: _LOOKED_AT - _EXTENSION] + last[-_EXTENSION:]
    text = composed(last, _LOOKED_AT)
    text = "".join(c for c in text if unicodedata.category(c) not in _UNPRINTABLE or is_shown(c))
    text = _FORBIDDEN.sub("_", text).strip(f" .{JOINERS}")
    if not text or _DEVICES.fullmatch(text):
        text = f"{_FALLBACK}-{text}" if text else _FALLBACK
    stem, suffix = _split(text)
    lowered = {folded(other, _LOOKED_AT) for other in taken}
    candidate, number = _cut(stem, suffix), 1
    while folded(candidate, _LOOKED_AT) in lowered:
        number += 1
        candidate = _cut(stem, f"-{number}{suffix}")
    return candidate


def is_safe_component(name: str) -> bool:
    """Whether a name an agent gave can be opened as it is: one plain component of at most 255 bytes."""
    return (
        0 < len(name.encode("utf-8", "surrogatepass")) <= 255
        and name not in (".", "..")
        and "/" not in name
        and "\x00" not in name
    )


def _split(text: str) -> tuple[str, str]:
    path = PurePosixPath(text)
    return (path.stem, path.suffix) if len(path.suffix.encode()) <= 16 else (text, "")


def _cut(stem: str, suffix: str) -> str:
    room = MAX_BYTES - len(suffix.encode())
    return stem.encode()[:room].decode("utf-8", "ignore").rstrip(" .") + suffix
