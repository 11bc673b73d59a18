"""What the host says outside of any conversation: cards of approvals, sentences to strangers, answers in other chats.

Each has a key that is said once: the same key is never queued again. A message that `edits` another one takes its place
where the platform can do that. What is addressed to a user whose direct chat is not known waits for its channel to open
one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from host.central.database import Effect, Queryable, Transaction, one
from shared_schema import json_text
from shared_schema.dataclass import dataclass
from shared_schema.rows import Row

INSERT = """
INSERT INTO host_messages (key, channel_type, platform_id, to_user, thread_id, content, approval_id, edits, created_at,
    not_before)
VALUES (:key, :channel_type, :platform_id, :to_user, :thread_id, :content, :approval_id, :edits, :created_at,
    :not_before)
ON CONFLICT DO NOTHING
"""
NEXT = """
SELECT * FROM host_messages INDEXED BY host_messages_open
WHERE channel_type = ? AND status IN ('pending', 'sending') AND status = 'pending'
  AND position NOT IN (SELECT value FROM json_each(?)) AND (not_before IS NULL OR not_before <= ?)
ORDER BY position LIMIT 1
"""
NEXT_HELD = """
SELECT min(not_before) AS at FROM host_messages INDEXED BY host_messages_open
WHERE channel_type = ? AND status IN ('pending', 'sending') AND not_before > ?
"""
CHANNELS = """
SELECT DISTINCT channel_type FROM host_messages INDEXED BY host_messages_open WHERE status IN ('pending', 'sending')
"""
BY_KEY = "SELECT * FROM host_messages WHERE key = ?"
OF_APPROVAL = "SELECT * FROM host_messages WHERE approval_id = ? AND edits IS NULL ORDER BY position"
CARD_AT = """
SELECT * FROM host_messages INDEXED BY host_messages_cards
WHERE channel_type = ? AND platform_id = ? AND platform_message_id = ? AND approval_id IS NOT NULL AND edits IS NULL
LIMIT 1
"""
SENDING = (
    "UPDATE host_messages SET status = 'sending', attempts = attempts + 1 WHERE position = ? AND status = 'pending'"
)
ATTEMPTED = "UPDATE host_messages SET status = 'pending', attempts = ?, error = ? WHERE position = ?"
FINISH = """
UPDATE host_messages SET status = ?, platform_id = coalesce(?, platform_id), platform_message_id = ?, error = ?,
    finished_at = ? WHERE position = ? AND status IN ('pending', 'sending')
"""
INTERRUPTED = """
UPDATE host_messages INDEXED BY host_messages_open SET status = 'uncertain', error = ?, finished_at = ?
WHERE status IN ('pending', 'sending') AND status = 'sending'
"""
SUPPRESS = """
UPDATE host_messages SET status = 'suppressed', finished_at = ?
WHERE approval_id = ? AND edits IS NULL AND status = 'pending'
"""
TRIM = """
DELETE FROM host_messages WHERE status NOT IN ('pending', 'sending') AND position <= (
    SELECT position FROM host_messages ORDER BY position DESC LIMIT 1 OFFSET ?)
"""
WAITING = "SELECT count(*) AS n FROM host_messages INDEXED BY host_messages_open WHERE status IN ('pending', 'sending')"

KEPT = 5_000


@dataclass(frozen=True, slots=True)
class HostMessage(Row):
    """One message of the host's own. `content` is JSON: `text`, and `buttons`, a list of `{"label", "value"}`."""

    position: int
    key: str
    channel_type: str
    platform_id: str | None
    to_user: str | None
    thread_id: str | None
    content: str
    approval_id: str | None
    edits: str | None
    created_at: str
    status: str
    attempts: int
    platform_message_id: str | None

    @property
    def text(self) -> str:
        """What it says."""
        return str(json_text.parse(self.content).get("text", ""))

    @property
    def short(self) -> str:
        """What stands in for it where messages cannot be changed."""
        return str(json_text.parse(self.content).get("short") or self.text)

    @property
    def buttons(self) -> list[tuple[str, str]]:
        """Its buttons: label and value of each."""
        return [(str(each["label"]), str(each["value"])) for each in json_text.parse(self.content).get("buttons", ())]


@dataclass(frozen=True, slots=True)
class HostSpeaks(Effect):
    """The host has something to say outside of any conversation."""


def say(
    tx: Transaction,
    key: str,
    channel_type: str,
    platform_id: str | None,
    text: str,
    *,
    thread_id: str | None = None,
    to_user: str | None = None,
    buttons: Sequence[tuple[str, str]] = (),
    approval_id: str | None = None,
    edits: str | None = None,
    short: str | None = None,
    not_before: str | None = None,
) -> bool:
    """Queue a message; False when one with that key was. A chat or a user is named.

    `short` is what stands in for an edit where the platform changes no messages. It is held until `not_before`.
    """
    content: dict[str, Any] = {"text": text}
    if short is not None:
        content["short"] = short
    if buttons:
        content["buttons"] = [{"label": label, "value": value} for label, value in buttons]
    values = {
        "key": key,
        "channel_type": channel_type,
        "platform_id": platform_id,
        "to_user": to_user,
        "thread_id": thread_id,
        "content": json.dumps(content, ensure_ascii=False),
        "approval_id": approval_id,
        "edits": edits,
        "created_at": tx.now,
        "not_before": not_before,
    }
    added = tx.execute(INSERT, values).rowcount > 0
    if added:
        tx.execute(TRIM, (KEPT,))
        tx.add(HostSpeaks())
    return added


def next_for(connection: Queryable, channel_type: str, resting: Sequence[int], now: str) -> HostMessage | None:
    """The oldest message that waits to be sent through a channel, but for the positions that rest and what is held."""
    row = one(connection, NEXT, (channel_type, json.dumps(list(resting)), now))
    return None if row is None else HostMessage.from_row(row)


def next_held(connection: Queryable, channel_type: str, now: str) -> str | None:
    """When the first message that is held may be sent through a channel."""
    row = one(connection, NEXT_HELD, (channel_type, now))
    return None if row is None else row["at"]


def channels_with_work(connection: Queryable) -> list[str]:
    """Channels that something waits for."""
    return [row["channel_type"] for row in connection.execute(CHANNELS)]


def by_key(connection: Queryable, key: str) -> HostMessage | None:
    """The message with that key."""
    row = one(connection, BY_KEY, (key,))
    return None if row is None else HostMessage.from_row(row)


def cards(connection: Queryable, approval_id: str) -> list[HostMessage]:
    """The messages that show an approval."""
    return [HostMessage.from_row(row) for row in connection.execute(OF_APPROVAL, (approval_id,))]


def card_at(connection: Queryable, chat: tuple[str, str], platform_message_id: str) -> HostMessage | None:
    """The card of an approval that a message of a chat is."""
    row = one(connection, CARD_AT, (*chat, platform_message_id))
    return None if row is None else HostMessage.from_row(row)


def suppress_cards(tx: Transaction, approval_id: str) -> None:
    """Do not send cards of an approval that is decided."""
    tx.execute(SUPPRESS, (tx.now, approval_id))


def mark_sending(tx: Transaction, position: int) -> bool:
    """Note that the platform is about to be called. False when the message does not wait any more."""
    return tx.execute(SENDING, (position,)).rowcount > 0


def mark_attempted(tx: Transaction, position: int, attempts: int, error: str) -> None:
    """Back to waiting, after an attempt that surely did not arrive."""
    tx.execute(ATTEMPTED, (attempts, error, position))


def finish(
    tx: Transaction,
    position: int,
    status: str,
    *,
    platform_id: str | None = None,
    platform_message_id: str | None = None,
    error: str | None = None,
) -> None:
    """Note what became of a message."""
    tx.execute(FINISH, (status, platform_id, platform_message_id, error, tx.now, position))


def mark_interrupted(tx: Transaction, error: str) -> None:
    """At the start of a host: what the last one was sending may or may not have arrived."""
    tx.execute(INTERRUPTED, (error, tx.now))


def waiting(connection: Queryable) -> int:
    """How many wait to be sent."""
    row = one(connection, WAITING)
    return 0 if row is None else int(row["n"])
