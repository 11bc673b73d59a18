"""Whether an agent's file has the form its next agent needs: asked when an agent is gone.

What the host reads is checked at every read. But an agent that leaves a file with a trigger, or without a column that
only agents use, would make each agent after it fail, and one without the key of a table could make answers vanish.
"""

from __future__ import annotations

import sqlite3
from functools import cache

from host.sessions.hard_link import reading
from shared_schema.database import in_memory
from shared_schema.errors import FileDamaged
from shared_schema.layout import SessionLayout
from shared_schema.migrate import OUTBOUND, migrate, version_of

# The columns of all tables with their type and place in the key, as text; and the triggers.
PARTS = """
SELECT t.name || '.' || c.name || ' ' || c.type || ' ' || c.pk AS part
FROM sqlite_master t JOIN pragma_table_xinfo(t.name) c WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'
UNION ALL SELECT 'trigger ' || name FROM sqlite_master WHERE type = 'trigger'
LIMIT 1000
"""


def require_schema(layout: SessionLayout) -> None:
    """Check that another agent can go on with the file of one that is gone. Raises `FileDamaged`, `FileTrouble`."""
    with reading(layout) as connection:
        version = version_of(connection)
        found = _parts(connection)
    if version < 1:
        raise FileDamaged(f"its schema version is {version}", where=layout.outbound)
    expected = _expected(min(version, OUTBOUND.version))
    if missing := sorted(expected - found):
        raise FileDamaged(f"it has not the column {missing[0]}", where=layout.outbound)
    # A migration and its version are one transaction: no honest file has a part of a version that it is still to be
    # brought to, and the agent that adds it would find it there, and fail, each time.
    if early := sorted(_names(found) & (_names(_expected(OUTBOUND.version)) - _names(expected))):
        raise FileDamaged(
            f"it says that it is of version {version}, and has {early[0]} of a later one", where=layout.outbound
        )
    if triggers := sorted(part for part in found if part.startswith("trigger ")):
        raise FileDamaged(f"it has the {triggers[0]}", where=layout.outbound)


@cache
def _expected(version: int) -> frozenset[str]:
    """What a file that says it is of that version has at least."""
    with in_memory() as connection:
        migrate(connection, OUTBOUND, to=version)
        return _parts(connection)


def _names(parts: frozenset[str]) -> frozenset[str]:
    """The columns, without type and place: SQLite compares their names without regard to case."""
    return frozenset(part.split(" ")[0].lower() for part in parts)


def _parts(connection: sqlite3.Connection) -> frozenset[str]:
    return frozenset(row["part"] for row in connection.execute(PARTS) if isinstance(row["part"], str))
