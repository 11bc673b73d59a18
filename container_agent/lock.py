"""One agent for each session: a lock on `out/.lock`, held for as long as the process lives.

The host sees to it that there is never a second agent. Should it ever be mistaken (it was killed between starting one
and noting it), the second finds the lock taken and leaves before it touches anything.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared_schema.errors import Conflict, FileTrouble
from shared_schema.system_errors import words_of


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock. Raises `Conflict` when another agent does, `FileTrouble` when the file cannot be made."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o660)
    except OSError as error:
        raise FileTrouble(f"the lock cannot be made: {words_of(error)}", where=path) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict("another agent of this session is running", where=path) from error
        yield
    finally:
        os.close(descriptor)
