"""Reading texts that an agent keeps in its workspace, for its prompt.

No file here ends a turn: one that is too long is truncated, one that cannot be read becomes a note. A link that leads
out of the folder is not followed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from shared_schema.dataclass import dataclass
from shared_schema.foreign_text import encoding_of
from shared_schema.text import is_all_shown

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Text:
    """What was found: the text, empty where there is none, and a note about what is wrong with it."""

    text: str = ""
    note: str = ""


def text_in(root: Path, path: Path, *, most: int) -> Text:
    """The text of a file beneath `root`, at most `most` characters of it. No file is an empty text without a note."""
    name = path.relative_to(root)
    try:
        meant = path.resolve(strict=True)
        if not meant.is_relative_to(root.resolve()):
            return Text(note=f"{name} is a link that leads out of the workspace, and is not read")
        descriptor = os.open(meant, _FLAGS)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Text(note=f"{name} is not an ordinary file, and is not read")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(4 * most + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return Text()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return Text(note=f"{name} cannot be read: {reason.lower()}")
    is_cut = len(data) > 4 * most
    mark, encoding = encoding_of(data)
    try:
        text = data[len(mark) : 4 * most].decode(encoding, "ignore" if is_cut else "strict")
    except UnicodeDecodeError:
        return Text(note=f"{name} is not text in UTF-8, and is not read")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    if len(text) > most or is_cut:
        return Text(text[:most].rstrip(), f"{name} is longer than {most:,} characters; only its beginning is shown")
    return Text(text.strip())


def names_in(root: Path, folder: Path, *, most: int) -> list[str]:
    """The names in a folder beneath `root`, sorted, the first `most`; none where it cannot be read."""
    try:
        if not folder.resolve(strict=True).is_relative_to(root.resolve()):
            return []
        return sorted(name for name in os.listdir(folder) if not name.startswith(".") and is_all_shown(name))[:most]
    except (OSError, RuntimeError, ValueError):
        return []
