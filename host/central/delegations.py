"""Tasks that a conversation has handed to conversations of their own, until their result is handed back."""

from __future__ import annotations

from enum import StrEnum

from host.central.database import Queryable, Transaction, one
from shared_schema.dataclass import dataclass
from shared_schema.rows import Row

INSERT = """
INSERT INTO delegations (id, parent_id, session_id, message_id, budget_tokens, deadline, state, created_at)
VALUES (?, ?, ?, ?, ?, ?, 'running', ?)
"""
BY_ID = "SELECT * FROM delegations WHERE id = ?"
OPEN = "SELECT * FROM delegations INDEXED BY delegations_open WHERE state IN ('running', 'stopping') LIMIT 500"
OPEN_OF = """
SELECT count(*) AS n FROM delegations INDEXED BY delegations_open
WHERE parent_id = ? AND state IN ('running', 'stopping')
"""
OPEN_SESSION = "SELECT * FROM delegations WHERE session_id = ? AND state IN ('running', 'stopping')"
IS_ONE = "SELECT 1 FROM delegations WHERE session_id = ?"
# The condition of the partial index stands here word for word, or SQLite does not take it.
STOP_OF = """
UPDATE delegations SET state = 'stopping'
WHERE parent_id = ? AND state IN ('running', 'stopping') AND state = 'running'
"""
CARRY = "UPDATE delegations SET parent_id = ? WHERE parent_id = ? AND state IN ('running', 'stopping')"
COUNT = "UPDATE delegations SET called_tokens = called_tokens + ? WHERE session_id = ? AND state = 'running'"
FINISH = """
UPDATE delegations SET state = ?, finished_at = ? WHERE id = ? AND state IN ('running', 'stopping')
"""


class DelegationState(StrEnum):
    RUNNING = "running"
    STOPPING = "stopping"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    LATE = "late"
    SPENT = "spent"


@dataclass(frozen=True, slots=True)
class Delegation(Row):
    """One task. `parent_id` is the session that asked, `session_id` the one that works, `message_id` the task."""

    id: str
    parent_id: str
    session_id: str
    message_id: str
    budget_tokens: int
    called_tokens: int
    deadline: str
    state: str
    created_at: str


def insert(
    tx: Transaction,
    *,
    id: str,
    parent_id: str,
    session_id: str,
    message_id: str,
    budget_tokens: int,
    deadline: str,
) -> None:
    """Note that a task runs."""
    tx.execute(INSERT, (id, parent_id, session_id, message_id, budget_tokens, deadline, tx.now))


def get(connection: Queryable, delegation_id: str) -> Delegation | None:
    """The task of that id."""
    row = one(connection, BY_ID, (delegation_id,))
    return None if row is None else Delegation.from_row(row)


def all_open(connection: Queryable) -> list[Delegation]:
    """Tasks whose result is not handed back yet."""
    return [Delegation.from_row(row) for row in connection.execute(OPEN)]


def open_count(connection: Queryable, parent_id: str) -> int:
    """How many tasks of a conversation run."""
    row = one(connection, OPEN_OF, (parent_id,))
    return 0 if row is None else int(row["n"])


def open_of_session(connection: Queryable, session_id: str) -> Delegation | None:
    """The task that a session works at."""
    row = one(connection, OPEN_SESSION, (session_id,))
    return None if row is None else Delegation.from_row(row)


def is_of(connection: Queryable, session_id: str) -> bool:
    """Whether a session was made for a task."""
    return one(connection, IS_ONE, (session_id,)) is not None


def stop_of(tx: Transaction, parent_id: str) -> int:
    """Let the tasks of a conversation be stopped; how many."""
    return tx.execute(STOP_OF, (parent_id,)).rowcount


def carry(tx: Transaction, parent_id: str, to: str) -> None:
    """The conversation that asked goes on in another session: its open tasks are that one's."""
    tx.execute(CARRY, (to, parent_id))


def count_call(tx: Transaction, session_id: str, tokens: int) -> None:
    """Count what a model call of a session used, where it works at a task."""
    tx.execute(COUNT, (tokens, session_id))


def refusal(connection: Queryable, session_id: str) -> str | None:
    """Why a session may make no further model call: the budget of its task is used up."""
    found = open_of_session(connection, session_id)
    if found is None or found.called_tokens < found.budget_tokens:
        return None
    return f"The budget of this task, {found.budget_tokens:,} tokens, is used up."


def finish(tx: Transaction, delegation_id: str, state: DelegationState) -> bool:
    """Note how a task ended. False when it has ended before."""
    return tx.execute(FINISH, (state, tx.now, delegation_id)).rowcount > 0
