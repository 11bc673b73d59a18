"""How often the host does something by itself, in an hour, for one chat, conversation or session.

Everything that one event can set off, and that can set off the next, is counted here: in the transaction that does it,
so that neither a crash nor a restart forgets. What is beyond its limit is not done; `status` and `doctor` show it.
"""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from enum import StrEnum

from host.central.database import Queryable, Transaction, one
from shared_schema.clock import from_text, to_text
from shared_schema.dataclass import dataclass

TAKE = """
INSERT INTO rate_limits (act, subject, hour, used, most) VALUES (:act, :subject, :hour, 1, :most)
ON CONFLICT (act, subject) DO UPDATE SET hour = excluded.hour, most = excluded.most,
    used = CASE hour WHEN excluded.hour THEN used + 1 ELSE 1 END
RETURNING used
"""
USED = "SELECT used FROM rate_limits WHERE act = ? AND subject = ? AND hour = ?"
STRUCK = """
SELECT act, subject, hour, used, most FROM rate_limits
WHERE hour >= ? AND used > most ORDER BY hour DESC, used - most DESC LIMIT ?
"""
TRIM = "DELETE FROM rate_limits WHERE hour < ?"
_HOUR = 13  # characters of a stored time up to its hour


class Act(StrEnum):
    """What the host does by itself. The value is shown to people."""

    NOTICE = "notices in a chat"
    COMPRESSION = "automatic summaries of a conversation"
    TITLE = "titles asked for in a conversation"
    START = "agent starts in a session"
    QUESTION = "questions that are answered without a mention"
    KEPT = "what is kept of a session"
    WAITING = "messages of a session that wait to be sent"
    KNOCK = "strangers who ask to be let in, on a channel"
    UNKNOWN_CHAT = "unknown chats that are asked about, on a channel"
    SCHEDULE = "schedules that an agent makes by itself"
    TRIGGER = "runs that events start, of a schedule"
    REACTION = "reactions in a chat that its agent is told of"
    HOPS = "agents that answer each other in a chat"
    AGENT_MESSAGES = "messages of an agent to another one"
    APPROVALS = "approvals that an agent asks for"
    DELEGATIONS = "tasks that an agent delegates"
    PROCESSES = "ends of background processes that wake an agent"
    AGENT_LIMITS = "messages between agents that were not handed over"
    DELEGATION_LIMITS = "tasks that an agent could not delegate"


PER_HOUR = {
    Act.NOTICE: 60,
    Act.COMPRESSION: 4,
    Act.TITLE: 20,
    Act.START: 600,
    Act.QUESTION: 20,
    Act.KEPT: 0,  # each one that is counted was refused
    Act.WAITING: 0,
    Act.KNOCK: 20,
    Act.UNKNOWN_CHAT: 20,
    Act.SCHEDULE: 30,
    Act.TRIGGER: 0,  # each one that is counted was held back
    Act.REACTION: 200,
    Act.HOPS: 0,
    Act.AGENT_MESSAGES: 60,
    Act.AGENT_LIMITS: 0,
    Act.DELEGATIONS: 60,
    Act.DELEGATION_LIMITS: 0,
    Act.PROCESSES: 30,
    Act.APPROVALS: 20,
}
"""How often each is done in an hour, for one subject."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something is done. `is_first`: it is the first time in this hour that it is not."""

    allowed: bool
    is_first: bool = False


def take(tx: Transaction, act: Act, subject: str, *, most: int | None = None) -> Verdict:
    """Count one more; whether it is to be done. `most` in an hour, where that depends on what it is done for."""
    most = PER_HOUR[act] if most is None else most
    row = one(tx, TAKE, {"act": act, "subject": subject, "hour": tx.now[:_HOUR], "most": most})
    used = 0 if row is None else int(row["used"])
    return Verdict(used <= most, used == most + 1)


def used(connection: Queryable, act: Act, subject: str, now: str) -> int:
    """How often it was done in this hour."""
    row = one(connection, USED, (act, subject, now[:_HOUR]))
    return 0 if row is None else int(row["used"])


def struck(connection: Queryable, now: str, limit: int = 20) -> list[sqlite3.Row]:
    """Limits that held something back in this hour or the one before: `act, subject, hour, used, most`."""
    return connection.execute(STRUCK, (_hours_before(now, 1), limit)).fetchall()


def trim(tx: Transaction) -> None:
    """Forget what was counted more than a day ago."""
    tx.execute(TRIM, (_hours_before(tx.now, 24),))


def _hours_before(now: str, hours: int) -> str:
    return to_text(from_text(now) - timedelta(hours=hours))[:_HOUR]
