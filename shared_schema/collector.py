"""The garbage collector, out of the way while a process starts.

What modules define stays until the end, and to look through it again and again is a tenth of a start. So it waits
while there are imports, and what is there afterwards it never looks through.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_USUAL = gc.get_threshold()
_WAITING = (200_000, 20, 100)
"""More than a start makes. A process that goes on without `begin` has at most so many objects that nothing uses."""


def wait() -> None:
    """Collect next to nothing from now on: imports follow."""
    gc.set_threshold(*_WAITING)


@contextmanager
def waiting() -> Iterator[None]:
    """The same for imports of a process that has begun."""
    wait()
    try:
        yield
    finally:
        gc.set_threshold(*_USUAL)


def begin() -> None:
    """Collect as usual from now on, and leave alone what is there."""
    gc.freeze()
    gc.set_threshold(*_USUAL)
