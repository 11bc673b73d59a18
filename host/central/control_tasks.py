"""Control tasks: what the host asks of an agent, as rows of the ledger: woken for, retried and limited like messages.

A control task belongs to no chat: its address is `host:errand`, where nothing is delivered. The agent answers it with a
message of kind `system`, and acknowledges it; with no such message, nothing came of it.
"""

from __future__ import annotations

from host.central import ingest
from host.central.database import Queryable, Transaction, one
from host.central.sessions import Session
from shared_schema.errors import FileDamaged
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import ControlTask as ControlTask  # exported for the callers of `ask`
from shared_schema.rows import MessageInKind, decode, encode

OPEN = """
SELECT message_id FROM ingest INDEXED BY ingest_open
WHERE session_id = ? AND status = 'pending' AND kind = 'control' AND generation = ? AND content = ? LIMIT 1
"""
TALK_WAITS = """
SELECT 1 FROM ingest INDEXED BY ingest_open
WHERE session_id = ? AND status = 'pending' AND kind = 'chat' AND trigger = 1 LIMIT 1
"""
FIRST_TEXT = """
SELECT content FROM ingest WHERE session_id = ? AND kind = 'chat' AND trigger = 1 AND withdrawn = 0
ORDER BY position LIMIT 1
"""
WAS_ASKED = """
SELECT 1 FROM ingest WHERE session_id = ? AND kind = 'control' AND generation = ? AND content = ? LIMIT 1
"""
CHANNEL_TYPE, PLATFORM_ID = "host", "errand"


def ask(tx: Transaction, session: Session, do: ControlTask) -> str:
    """Ask the agent of a session. Returns the id of the task; one that is open already is not asked a second time."""
    content = encode({"do": do.value})
    row = one(tx, OPEN, (session.id, session.generation, content))
    if row is not None:
        return str(row["message_id"])
    message_id = new_id(Prefix.MESSAGE)
    ingest.accept(
        tx,
        {
            "message_id": message_id,
            "agent_group_id": session.agent_group_id,
            "session_id": session.id,
            "generation": session.generation,
            "channel_type": CHANNEL_TYPE,
            "platform_id": PLATFORM_ID,
            "thread_id": None,
            "platform_message_id": message_id,
            "sender_id": None,
            "sender_name": None,
            "kind": MessageInKind.CONTROL,
            "trigger": 1,
            "content": content,
            "spool": None,
            "accepted_at": tx.now,
        },
    )
    return message_id


def was_asked(connection: Queryable, session: Session, do: ControlTask) -> bool:
    """Whether the agent of a session was asked for this in its present generation, with or without success."""
    return one(connection, WAS_ASKED, (session.id, session.generation, encode({"do": do.value}))) is not None


def talk_waits(connection: Queryable, session_id: str) -> bool:
    """Whether a person waits for an answer: a control task that can wait would hold it up."""
    return one(connection, TALK_WAITS, (session_id,)) is not None


def first_text(connection: Queryable, session_id: str) -> str:
    """What a conversation began with; empty when it was a file alone, or is forgotten."""
    row = one(connection, FIRST_TEXT, (session_id,))
    return "" if row is None else str(decode(row["content"]).get("text") or "")


def control_task_of(row: ingest.AcceptedMessage) -> ControlTask | None:
    """Returns what a row of the ledger asks of the agent; None for what a person wrote."""
    if row.kind != MessageInKind.CONTROL:
        return None
    try:
        return ControlTask(str(decode(row.content).get("do")))
    except (FileDamaged, ValueError):  # its content was forgotten with its session
        return None
