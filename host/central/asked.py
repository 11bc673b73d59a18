"""What a program asked of an agent over HTTP, and what answers it: read from the ledger, which knows all of it."""

from __future__ import annotations

from collections.abc import Sequence

from host.central.database import Queryable, one
from shared_schema.dataclass import dataclass
from shared_schema.rows import Row

BY_ID = """
SELECT i.message_id, i.platform_message_id, i.session_id, i.agent_group_id, a.name AS agent_group, i.channel_type,
    i.platform_id, i.thread_id, i.status, i.error, i.content, i.accepted_at, i.finished_at, i.turn_id, t.model,
    t.input_tokens, t.output_tokens, t.cache_read_tokens, t.cache_write_tokens, t.reasoning_tokens, t.cost_usd
FROM ingest i JOIN agent_groups a ON a.id = i.agent_group_id
LEFT JOIN turns t ON t.session_id = i.session_id AND t.id = i.turn_id
WHERE i.message_id = ? AND i.channel_type = 'api' AND i.kind = 'chat'
"""
# What goes elsewhere in the same turn, and what is said at a time of its own, answers nothing.
SAID = """
SELECT position, message_out_id, in_reply_to, kind, content, created_at
FROM deliveries INDEXED BY deliveries_by_session
WHERE session_id = :session_id AND position > :after AND from_host = 0 AND deliver_after IS NULL
  AND kind IN ('chat', 'card', 'question') AND status <> 'suppressed'
  AND channel_type = :channel_type AND platform_id = :platform_id AND thread_id IS :thread_id
  AND (in_reply_to = :message_id OR turn_id = :turn_id)
ORDER BY position LIMIT 1000
"""
NEWEST = """
SELECT i.message_id FROM ingest i INDEXED BY ingest_by_session
WHERE i.session_id = ? AND i.kind = 'chat' AND i.channel_type = 'api' ORDER BY i.position DESC LIMIT ?
"""
NEWEST_OF_CHAT = """
SELECT s.id FROM messaging_groups m JOIN sessions s ON s.messaging_group_id = m.id
WHERE m.channel_type = 'api' AND (:platform_id IS NULL OR m.platform_id = :platform_id)
  AND (:agent_group_id IS NULL OR s.agent_group_id = :agent_group_id) AND s.status <> 'deleted'
ORDER BY s.last_active DESC LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class ProgramMessage(Row):
    """One message of a program, its outcome, and what the turn that took it used."""

    message_id: str
    platform_message_id: str
    session_id: str
    agent_group_id: str
    agent_group: str
    channel_type: str
    platform_id: str
    thread_id: str | None
    status: str
    error: str | None
    content: str
    accepted_at: str
    finished_at: str | None
    turn_id: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class ProgramAnswer(Row):
    """One message of the agent that answers it."""

    position: int
    message_out_id: str
    in_reply_to: str | None
    kind: str
    content: str
    created_at: str


def find(connection: Queryable, message_id: str) -> ProgramMessage | None:
    """What a program asked, by the id of its message."""
    row = one(connection, BY_ID, (message_id,))
    return None if row is None else ProgramMessage.from_row(row)


def said(connection: Queryable, asked: ProgramMessage, after: int = 0) -> list[ProgramAnswer]:
    """What answers a message, oldest first, behind a position.

    A turn may take several messages at once. What names the message that it answers is that message's; what names
    none is for all of them; and a message to which nothing was said by name gets what was said to the others.
    """
    values = {
        "session_id": asked.session_id,
        "after": after,
        "channel_type": asked.channel_type,
        "platform_id": asked.platform_id,
        "thread_id": asked.thread_id,
        "message_id": asked.message_id,
        "turn_id": asked.turn_id,
    }
    found = [ProgramAnswer.from_row(row) for row in connection.execute(SAID, values)]
    own = [each for each in found if each.in_reply_to in (None, asked.message_id)]
    return own or (found if asked.status == "completed" and not after else [])


def newest(
    connection: Queryable, *, platform_id: str | None, agent_group_id: str | None, limit: int
) -> Sequence[ProgramMessage]:
    """What was asked last, in one chat or in all of them, the newest conversations first."""
    values = {"platform_id": platform_id, "agent_group_id": agent_group_id, "limit": limit}
    found: list[ProgramMessage] = []
    for session in connection.execute(NEWEST_OF_CHAT, values).fetchall():
        for row in connection.execute(NEWEST, (session["id"], limit - len(found))).fetchall():
            asked = find(connection, row["message_id"])
            if asked is not None:
                found.append(asked)
        if len(found) >= limit:
            break
    return sorted(found, key=lambda each: each.accepted_at, reverse=True)
