"""What a child does with a signal, whatever the process that runs the tests has inherited."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def not_ignored(number: int) -> Iterator[None]:
    """Children started meanwhile have the system's own disposition: a shell starts what runs in the background with
    SIGINT and SIGQUIT ignored, and that is inherited."""
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)
