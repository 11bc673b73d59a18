"""An empty central.db for a test: its two hundred migrating statements are executed once in a process, and then copied.

That a host makes the file by itself is shown by the tests of migrations, and by all that start one as a process.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from host.central.database import CENTRAL, Central
from shared_schema.clock import Clock
from shared_schema.database import open_writer
from shared_schema.migrate import migrate


def make_registry(path: Path) -> None:
    """Put an empty registry there, unless there is one already."""
    if not path.exists():
        path.write_bytes(_empty())


def open_central(path: Path, clock: Clock, kind: type[Central] = Central) -> Central:
    """`Central.open`; blocks for less time."""
    make_registry(path)
    return kind.open(path, clock)


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "central.db"
        with closing(open_writer(path, create=True)) as connection:
            migrate(connection, CENTRAL)
        return path.read_bytes()
