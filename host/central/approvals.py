"""Approvals: what is to be decided by people with a role, and how it was decided."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from host.central.database import Effect, Queryable, Transaction, one
from shared_schema import json_text
from shared_schema.dataclass import dataclass
from shared_schema.rows import Row

INSERT = """
INSERT INTO approvals (id, code, kind, subject, arguments, role, agent_groups, waiting, created_at, expires_at)
VALUES (:id, :code, :kind, :subject, :arguments, :role, :agent_groups, :waiting, :created_at, :expires_at)
"""
OPEN_FOR = "SELECT * FROM approvals WHERE kind = ? AND subject = ? AND state = 'pending'"
LAST_FOR = "SELECT * FROM approvals WHERE kind = ? AND subject = ? ORDER BY position DESC LIMIT 1"
BY_CODE = "SELECT * FROM approvals WHERE code = ?"
BY_ID = "SELECT * FROM approvals WHERE id = ?"
LIST = """
SELECT * FROM approvals WHERE (:state IS NULL OR state = :state) ORDER BY position DESC LIMIT :limit
"""
OPEN_COUNT = "SELECT count(*) AS n FROM approvals INDEXED BY approvals_expiring WHERE state = 'pending'"
EXPIRED = """
SELECT * FROM approvals INDEXED BY approvals_expiring WHERE state = 'pending' AND expires_at <= ?
ORDER BY expires_at LIMIT 100
"""
NEXT_EXPIRY = "SELECT min(expires_at) AS at FROM approvals INDEXED BY approvals_expiring WHERE state = 'pending'"
REPEATED = "UPDATE approvals SET repeats = repeats + 1, waiting = ? WHERE id = ?"
# The state is asked for again in the very statement that changes it: what is decided once stays decided.
DECIDE = """
UPDATE approvals SET state = :state, decided_at = :now, decided_by = :by, decided_from = :where_from,
    choice = :choice, outcome = :outcome, waiting = CASE :state WHEN 'approved' THEN waiting ELSE '[]' END
WHERE id = :id AND state = 'pending'
"""
TO_REPLAY = "SELECT * FROM approvals INDEXED BY approvals_to_replay WHERE state = 'approved' AND waiting <> '[]'"
REPLAYED = "UPDATE approvals SET waiting = '[]' WHERE id = ?"
WAITING = "UPDATE approvals SET waiting = ? WHERE id = ? AND state = 'pending'"
WAITING_FOR = """
SELECT a.* FROM approvals a INDEXED BY approvals_expiring WHERE a.state = 'pending' AND EXISTS (
    SELECT 1 FROM json_each(a.waiting) e
    WHERE json_extract(e.value, '$.platform_message_id') = :message_id
      AND json_extract(e.value, '$.channel_type') = :channel_type
      AND json_extract(e.value, '$.platform_id') = :platform_id)
"""
SPOOLS = """
SELECT json_extract(e.value, '$.spool') AS spool, json_extract(e.value, '$.bytes') AS bytes
FROM approvals a, json_each(a.waiting) e
WHERE a.waiting <> '[]' AND a.state IN ('pending', 'approved') AND json_extract(e.value, '$.spool') IS NOT NULL
"""
TRIM = """
DELETE FROM approvals WHERE state <> 'pending' AND waiting = '[]' AND position <= (
    SELECT position FROM approvals ORDER BY position DESC LIMIT 1 OFFSET ?)
"""

KEPT = 1_000
"""Approvals that are kept when they are decided; the audit log knows longer."""
MOST_OPEN = 200
"""Approvals that are open at the same time, so that strangers cannot fill the table."""


class ApprovalState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Approval(Row):
    """One decision. `arguments` and `waiting` are JSON; `agent_groups` the ids whose admins may decide, as JSON."""

    id: str
    code: str
    kind: str
    subject: str
    arguments: str
    role: str
    agent_groups: str | None
    state: str
    waiting: str
    repeats: int
    created_at: str
    expires_at: str
    decided_at: str | None
    decided_by: str | None
    decided_from: str | None
    choice: str | None
    outcome: str | None

    @property
    def about(self) -> dict[str, Any]:
        """The arguments."""
        found: dict[str, Any] = json_text.parse(self.arguments)
        return found

    @property
    def of_agent_groups(self) -> list[str] | None:
        """The agent groups whose admins may decide; None: only owners and admins of all."""
        return None if self.agent_groups is None else json_text.parse(self.agent_groups)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What waits for the decision, oldest first, as JSON of events."""
        found: list[dict[str, Any]] = json_text.parse(self.waiting)
        return found


@dataclass(frozen=True, slots=True)
class ApprovalsChanged(Effect):
    """An approval was asked for or decided."""


def insert(
    tx: Transaction,
    *,
    id: str,
    code: str,
    kind: str,
    subject: str,
    arguments: Mapping[str, Any],
    role: str,
    agent_groups: Sequence[str] | None,
    waiting: Sequence[Mapping[str, Any]],
    created_at: str,
    expires_at: str,
) -> None:
    """Open an approval. The oldest decided ones go in time."""
    tx.execute(
        INSERT,
        {
            "id": id,
            "code": code,
            "kind": kind,
            "subject": subject,
            "arguments": _json(dict(arguments)),
            "role": role,
            "agent_groups": None if agent_groups is None else _json(list(agent_groups)),
            "waiting": _json(list(waiting)),
            "created_at": created_at,
            "expires_at": expires_at,
        },
    )
    tx.execute(TRIM, (KEPT,))
    tx.add(ApprovalsChanged())


def open_for(connection: Queryable, kind: str, subject: str) -> Approval | None:
    """The open approval about a subject."""
    return _one(connection, OPEN_FOR, (kind, subject))


def last_for(connection: Queryable, kind: str, subject: str) -> Approval | None:
    """The newest approval about a subject, open or decided."""
    return _one(connection, LAST_FOR, (kind, subject))


def by_code(connection: Queryable, code: str) -> Approval | None:
    """The approval with that code, as it is stored."""
    return _one(connection, BY_CODE, (code,))


def get(connection: Queryable, approval_id: str) -> Approval | None:
    """The approval with that id."""
    return _one(connection, BY_ID, (approval_id,))


def newest(connection: Queryable, state: ApprovalState | None = None, limit: int = 100) -> list[Approval]:
    """The newest first."""
    return [Approval.from_row(row) for row in connection.execute(LIST, {"state": state, "limit": limit})]


def open_count(connection: Queryable) -> int:
    """How many wait for a decision."""
    row = one(connection, OPEN_COUNT)
    return 0 if row is None else int(row["n"])


def waiting_for(connection: Queryable, channel_type: str, platform_id: str, platform_message_id: str) -> list[Approval]:
    """The open approvals for which a message of a platform waits."""
    values = {"channel_type": channel_type, "platform_id": platform_id, "message_id": platform_message_id}
    return [Approval.from_row(row) for row in connection.execute(WAITING_FOR, values)]


def repeated(tx: Transaction, approval: Approval, waiting: Sequence[Mapping[str, Any]]) -> None:
    """The same is asked once more; `waiting` is what waits now."""
    tx.execute(REPEATED, (_json(list(waiting)), approval.id))


def set_waiting(tx: Transaction, approval: Approval, waiting: Sequence[Mapping[str, Any]]) -> None:
    """Change what waits for an open approval."""
    tx.execute(WAITING, (_json(list(waiting)), approval.id))


def decide(
    tx: Transaction,
    approval: Approval,
    state: ApprovalState,
    *,
    by: str | None,
    where_from: str | None,
    choice: str | None,
    outcome: str | None,
) -> bool:
    """Give an approval its one decision. False when it has one."""
    values = {
        "id": approval.id,
        "state": state,
        "by": by,
        "where_from": where_from,
        "choice": choice,
        "outcome": outcome,
        "now": tx.now,
    }
    if not tx.execute(DECIDE, values).rowcount:
        return False
    tx.add(ApprovalsChanged())
    return True


def expired(connection: Queryable, now: str) -> list[Approval]:
    """Open approvals whose time is over, the oldest first; some at a time."""
    return [Approval.from_row(row) for row in connection.execute(EXPIRED, (now,))]


def next_expiry(connection: Queryable) -> str | None:
    """When the next open approval expires."""
    row = one(connection, NEXT_EXPIRY)
    return None if row is None else row["at"]


def to_replay(connection: Queryable) -> list[Approval]:
    """Approved ones whose waiting events have not been handed in yet."""
    return [Approval.from_row(row) for row in connection.execute(TO_REPLAY)]


def replayed(tx: Transaction, approval_id: str) -> None:
    """What waited was handed in."""
    tx.execute(REPLAYED, (approval_id,))


def spools_waiting(connection: Queryable) -> dict[str, int]:
    """The spool folders that events which wait need, and the size (bytes) of what is in each."""
    return {row["spool"]: int(row["bytes"] or 0) for row in connection.execute(SPOOLS)}


def _one(connection: Queryable, statement: str, values: tuple[str, ...]) -> Approval | None:
    row = one(connection, statement, values)
    return None if row is None else Approval.from_row(row)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
