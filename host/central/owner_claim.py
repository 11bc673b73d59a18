"""The code with which the first owner is claimed. There is one at a time; how it is judged is in `host/access/`."""

from __future__ import annotations

from host.central.database import Queryable, Transaction, one
from shared_schema.dataclass import dataclass
from shared_schema.rows import Row

GET = "SELECT code, expires_at, wrong_tries, locked_until FROM owner_claim WHERE id = 1"
PUT = """
INSERT INTO owner_claim (id, code, expires_at) VALUES (1, ?, ?)
ON CONFLICT (id) DO UPDATE SET code = excluded.code, expires_at = excluded.expires_at, wrong_tries = 0,
    locked_until = NULL
"""
WRONG = "UPDATE owner_claim SET wrong_tries = wrong_tries + 1, locked_until = ? WHERE id = 1"
FORGET = "DELETE FROM owner_claim"


@dataclass(frozen=True, slots=True)
class OwnerClaim(Row):
    """A code, until when it holds, and how many wrong ones were said. All times are stored times."""

    code: str
    expires_at: str
    wrong_tries: int
    locked_until: str | None


def get(connection: Queryable) -> OwnerClaim | None:
    """The code there is."""
    row = one(connection, GET)
    return None if row is None else OwnerClaim.from_row(row)


def put(tx: Transaction, code: str, expires_at: str) -> None:
    """A fresh code, in the place of any."""
    tx.execute(PUT, (code, expires_at))


def wrong(tx: Transaction, locked_until: str | None) -> None:
    """Count a wrong try; it may lock the code."""
    tx.execute(WRONG, (locked_until,))


def forget(tx: Transaction) -> None:
    """There is an owner: no code is any good now."""
    tx.execute(FORGET)
