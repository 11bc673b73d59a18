"""Questions that agents have put to people, for as long as an answer is waited for.

The answer to a question needs no mention, and no pattern: that waives the rule of a wiring, for one message of the
person who was asked, where it was asked. So a question is open once it can be seen, until that person has written
there or its time is over; and there are few at a time.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from host.central import deliveries, rate_limits
from host.central.database import Queryable, Transaction, one
from host.central.messaging_groups import TERMINAL_CHANNEL
from host.central.rate_limits import Act
from shared_schema.clock import from_text, to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileDamaged, InvalidValue
from shared_schema.rows import Address, MessageOutKind, decode, encode

INSERT = """
INSERT INTO questions (session_id, message_out_id, channel_type, platform_id, thread_id, sender_id, expires_at)
SELECT :session_id, :message_out_id, :channel_type, :platform_id, :thread_id, :sender_id, :expires_at
WHERE (SELECT count(*) FROM questions WHERE session_id = :session_id AND expires_at > :now) < :most
"""
EXPIRED = "DELETE FROM questions WHERE session_id = ? AND expires_at <= ?"
# What waits behind other messages, for its time, or was not sent, is not in the chat: the first of its lane may be on
# its way at this moment, and its answer may be faster than the record of that.
IS_OPEN = """
SELECT 1 FROM routes r
JOIN questions q ON q.session_id = r.active_session_id
JOIN deliveries d ON d.session_id = q.session_id AND d.message_out_id = q.message_out_id
WHERE r.agent_group_id = :agent_group_id AND r.route_key = :route_key AND q.channel_type = :channel_type
  AND q.platform_id = :platform_id AND q.thread_id IS :thread_id AND q.sender_id = :sender_id
  AND q.expires_at > :now
  AND (d.status IN ('sending', 'delivered', 'uncertain') OR d.status = 'pending' AND d.deliver_after IS NULL
    AND NOT EXISTS (
        SELECT 1 FROM deliveries e INDEXED BY deliveries_open
        WHERE e.channel_type = d.channel_type AND e.platform_id = d.platform_id AND e.lane = d.lane
          AND e.deliver_after IS NULL AND e.position < d.position AND e.status IN ('pending', 'sending')))
LIMIT 1
"""
# From the questions on, of which there are few: SQLite may begin with all sessions otherwise.
ALL_OPEN = """
SELECT q.*, a.name AS agent_group, d.content FROM questions q
CROSS JOIN sessions s ON s.id = q.session_id
CROSS JOIN agent_groups a ON a.id = s.agent_group_id
CROSS JOIN deliveries d ON d.session_id = q.session_id AND d.message_out_id = q.message_out_id
WHERE q.expires_at > ? AND s.status = 'active' ORDER BY q.expires_at, q.message_out_id LIMIT ?
"""
IS_ASKED = """
SELECT 1 FROM questions WHERE session_id = ? AND message_out_id = ? AND sender_id = ? AND expires_at > ?
"""
ANSWERED = """
DELETE FROM questions
WHERE session_id = ? AND channel_type = ? AND platform_id = ? AND thread_id IS ? AND sender_id = ?
RETURNING message_out_id
"""
NO_EXPIRY = """
UPDATE deliveries SET status = 'suppressed', finished_at = ?
WHERE session_id = ? AND message_out_id = ? AND status = 'pending'
"""
EXPIRES_NOW = """
UPDATE deliveries SET deliver_after = NULL WHERE session_id = ? AND message_out_id = ? AND status = 'pending'
"""
FORGET = "DELETE FROM questions WHERE session_id = ? RETURNING message_out_id"

MOST_OPEN = 3
"""Questions of one session that are open at a time. Further ones are sent, and their answers need a mention."""

_LONGEST = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question that waits for a person; `options` are what may be chosen, if anything."""

    session_id: str
    agent_group: str
    message_out_id: str
    address: Address
    sender_id: str
    expires_at: str
    text: str
    options: list[str]

    @property
    def asked(self) -> str:
        """The user who is asked."""
        return f"{self.address.channel_type}:{self.sender_id}"


def ask(
    tx: Transaction,
    *,
    session_id: str,
    route_id: str,
    message_out_id: str,
    address: Address,
    sender_id: str,
    expires: object,
) -> str | None:
    """Note that a person is asked. Why the answer needs a mention all the same, if it does.

    `expires` is what the agent says: a question without a time, or whose time is over, waits for nothing.
    """
    moment = from_text(tx.now)
    if not isinstance(expires, str):
        return None
    try:
        until = min(from_text(expires), moment + _LONGEST)
    except InvalidValue:
        return None
    if until <= moment:
        return None
    tx.execute(EXPIRED, (session_id, tx.now))
    if not rate_limits.take(tx, Act.QUESTION, route_id).allowed:
        return "there were many questions in this conversation within an hour: the answer to this one needs a mention"
    values = {
        "session_id": session_id,
        "message_out_id": message_out_id,
        "channel_type": address.channel_type,
        "platform_id": address.platform_id,
        "thread_id": address.thread_id,
        "sender_id": sender_id,
        "expires_at": to_text(until),
        "now": tx.now,
        "most": MOST_OPEN,
    }
    if tx.execute(INSERT, values).rowcount:
        late = "(The time for an answer is over.)"
        _change(tx, session_id, message_out_id, "expired", late, deliver_after=to_text(until))
        return None
    return f"{MOST_OPEN} questions of this conversation are open already: the answer to this one needs a mention"


def is_asked(connection: Queryable, session_id: str, message_out_id: str, sender_id: str, now: str) -> bool:
    """Whether that person's answer to that question is waited for."""
    return one(connection, IS_ASKED, (session_id, message_out_id, sender_id, now)) is not None


def all_open(connection: Queryable, now: str, limit: int) -> list[OpenQuestion]:
    """The questions that wait for an answer, the one whose time is over first before the others."""
    found = []
    for row in connection.execute(ALL_OPEN, (now, limit)).fetchall():
        try:
            content = decode(row["content"])
        except FileDamaged:
            content = {}
        found.append(
            OpenQuestion(
                row["session_id"],
                row["agent_group"],
                row["message_out_id"],
                Address(row["channel_type"], row["platform_id"], row["thread_id"]),
                row["sender_id"],
                row["expires_at"],
                _asked_text(content),
                _labels(content.get("options")),
            )
        )
    return found


def _asked_text(content: dict[str, Any]) -> str:
    return str(content.get("question") or content.get("text") or "")


def _labels(options: object) -> list[str]:
    if not isinstance(options, list):
        return []
    return [str(each.get("label", "")) for each in options if isinstance(each, dict) and each.get("label")]


def is_open(
    connection: Queryable,
    agent_group_id: str,
    route_key: str,
    address: Address,
    sender_id: str | None,
    now: str,
) -> bool:
    """Whether the conversation of a route waits for an answer of that person in that place."""
    if sender_id is None:
        return False
    parameters = {
        "agent_group_id": agent_group_id,
        "route_key": route_key,
        "channel_type": address.channel_type,
        "platform_id": address.platform_id,
        "thread_id": address.thread_id,
        "sender_id": sender_id,
        "now": now,
    }
    return one(connection, IS_OPEN, parameters) is not None


def answered(tx: Transaction, session_id: str, address: Address, sender_id: str | None, said: str) -> bool:
    """That person has written there: what was asked of them is answered, and the rule of the wiring holds again.

    The questions in the chat are changed to say so, where the platform can. Whether there were any.
    """
    values = (session_id, address.channel_type, address.platform_id, address.thread_id, sender_id)
    found = [row["message_out_id"] for row in tx.execute(ANSWERED, values).fetchall()]
    for message_id in found:
        tx.execute(NO_EXPIRY, (tx.now, session_id, f"{message_id}/expired"))
        _change(tx, session_id, message_id, "answered", f"✓ {said}" if said else "✓ answered")
    return bool(found)


def _change(
    tx: Transaction, session_id: str, message_id: str, how: str, sentence: str, *, deliver_after: str | None = None,
) -> None:  # fmt: skip
    """Queue the change of a question in its chat. The terminal shows all that was said, and changes nothing."""
    row = deliveries.sent_of_session(tx, session_id, message_id)
    if row is None or row["channel_type"] == TERMINAL_CHANNEL:
        return
    text = str(decode(row["content"]).get("text", ""))
    deliveries.add(
        tx,
        message_out_id=f"{message_id}/{how}",
        session_id=session_id,
        kind=MessageOutKind.EDIT,
        from_host=True,
        channel_type=row["channel_type"],
        platform_id=row["platform_id"],
        thread_id=row["thread_id"],
        content=encode({"edit": message_id, "text": f"{text}\n\n{sentence}"}),
        deliver_after=deliver_after,
        created_at=tx.now,
    )


def forget(tx: Transaction, session_id: str) -> None:
    """Close the questions of a session; each of them says so now."""
    found = [row["message_out_id"] for row in tx.execute(FORGET, (session_id,)).fetchall()]
    tx.executemany(EXPIRES_NOW, [(session_id, f"{message_id}/expired") for message_id in found])
