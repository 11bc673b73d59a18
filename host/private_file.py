"""Replacing a file with secrets: private from the first byte, whole or as it was, its owner's still."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from shared_schema.errors import FileTrouble
from shared_schema.system_errors import words_of


def replace_private(path: Path, text: str) -> None:
    """Put a text in the place of a file, which its owner alone can read. Raises `FileTrouble`."""
    temporary = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        _keep_owner(path, temporary)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise FileTrouble(f"the file with keys cannot be written: {words_of(error)}", where=path) from error


def _keep_owner(path: Path, temporary: Path) -> None:
    """A file that root writes into another person's data folder belongs to that person."""
    owner = path.stat() if path.exists() else path.parent.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(temporary, owner.st_uid, owner.st_gid)
