"""Calls of tools that a person has allowed a conversation to make: each by the digest of the tool and its arguments."""

from __future__ import annotations

from host.central.database import Queryable, Transaction, one

PUT = """
INSERT INTO call_grants (session_id, call, until) VALUES (?, ?, ?)
ON CONFLICT (session_id, call) DO UPDATE SET until = excluded.until
"""
HOLDS = "SELECT 1 FROM call_grants WHERE session_id = ? AND call = ? AND (until IS NULL OR until > ?)"
TRIM = "DELETE FROM call_grants WHERE until <= ?"


def put(tx: Transaction, session_id: str, call: str, until: str | None) -> None:
    """Allow a call until that time; None: as long as the conversation. Grants whose time is over go."""
    tx.execute(TRIM, (tx.now,))
    tx.execute(PUT, (session_id, call, until))


def holds(connection: Queryable, session_id: str, call: str, now: str) -> bool:
    """Whether a conversation may make a call now."""
    return one(connection, HOLDS, (session_id, call, now)) is not None
