"""A transaction at a moment of a test's choosing."""

from __future__ import annotations

import sqlite3

from host.central.database import Transaction
from shared_schema.clock import from_text


def at(connection: sqlite3.Connection | Transaction, now: str) -> Transaction:
    """The same transaction at another moment, or one on a connection of the test's own. Its effects go nowhere."""
    within = connection.connection if isinstance(connection, Transaction) else connection
    return Transaction(within, from_text(now))
