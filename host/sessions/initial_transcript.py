"""What a session begins with when it goes on from another one: the steps that its model is to know.

A branch gets the steps of its parent that count, a compressed conversation one step with the summary. They are written
into the fresh `outbound.db` when the host makes it. The parent's file is an agent's, so it is read as one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from host.sessions.hard_link import reading
from shared_schema.dataclass import dataclass
from shared_schema.layout import SessionLayout

MAX_STEPS = 10_000
MAX_CHARACTERS = 16_000_000

# The newest steps that count; those of turns that were given back or died are in the turn that followed.
STEPS = """
SELECT s.seq, s.turn_id, s.role, s.content, s.tool_name, s.tool_call_id, s.tool_calls, s.reasoning, s.usage, s.timestamp
FROM steps s LEFT JOIN turns t ON t.id = s.turn_id
WHERE t.id IS NULL OR t.status = 'completed' OR (t.status = 'failed' AND t.failure_reason IS NOT 'agent_died')
   OR (t.status = 'cancelled' AND t.failure_reason = 'stopped')
ORDER BY s.seq DESC LIMIT ?
"""
_TABLES = frozenset({"steps", "turns"})
_ROLES = frozenset({"system", "user", "assistant", "tool"})
_SUMMARY = "Summary of the conversation so far:\n"


@dataclass(frozen=True, slots=True)
class InitialStep:
    """A row of `steps`, but for its `seq`."""

    turn_id: str
    role: str
    content: str | None
    tool_name: str | None
    tool_call_id: str | None
    tool_calls: str | None
    reasoning: str | None
    usage: str | None
    timestamp: str


def of_summary(summary: str, timestamp: str) -> list[InitialStep]:
    """The one step of a conversation that was compressed."""
    return [InitialStep("seed", "user", _SUMMARY + summary, None, None, None, None, None, timestamp)]


def of_branch(parent: SessionLayout, withdrawn: Collection[str]) -> list[InitialStep]:
    """The steps of a parent that count, oldest first; the newest 10,000 and 16 million characters of them at most.

    `withdrawn` are turns that were taken back. Blocks. Raises `FileBusy` when there is nothing to read at the moment,
    `FileDamaged` when the file is no good.
    """
    with reading(parent, _TABLES) as connection:
        return _read(connection, withdrawn)


def _read(connection: sqlite3.Connection, withdrawn: Collection[str]) -> list[InitialStep]:
    found: list[InitialStep] = []
    characters = 0
    for row in connection.execute(STEPS, (MAX_STEPS,)):
        values = [row[name] for name in InitialStep.__match_args__]
        if any(value is not None and not isinstance(value, str) for value in values):
            continue
        step = InitialStep(*values)
        characters += sum(len(value) for value in values if value is not None)
        if characters > MAX_CHARACTERS:
            break
        if step.role in _ROLES and step.turn_id not in withdrawn and step.timestamp is not None:
            found.append(step)
    return found[::-1]
