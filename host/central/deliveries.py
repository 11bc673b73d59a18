"""Everything that goes out, in the order it goes to its chat, and what became of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import field

from host.central import rate_limits
from host.central.database import Effect, Queryable, Transaction, one
from host.central.rate_limits import Act
from shared_schema.dataclass import dataclass
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address, MessageOutKind, Row, encode

Chat = tuple[str, str]
"""Channel type and platform id: whose deliveries go out one after the other."""

NO_CHAT = "nowhere"
"""The channel of what is said in a run that speaks nowhere: it is kept, and never sent."""

INSERT = """
INSERT INTO deliveries (message_out_id, session_id, turn_id, in_reply_to, kind, from_host, channel_type, platform_id,
    thread_id, content, deliver_after, created_at, status, error, finished_at, recorded, after_position, lane)
VALUES (:message_out_id, :session_id, :turn_id, :in_reply_to, :kind, :from_host, :channel_type, :platform_id,
    :thread_id, :content, :deliver_after, :created_at, :status, :error, :finished_at, :recorded,
    coalesce((SELECT max(position) FROM ingest WHERE session_id = :session_id), 0),
    (SELECT route_id FROM sessions WHERE id = :session_id))
ON CONFLICT DO NOTHING
"""
# What is open is found by the partial index, which SQLite takes only when its very condition stands in the statement:
# what was sent once costs nothing afterwards. The lanes of a chat are stepped through one by one in their order, which
# is also the order of the rows of the recursion, and the first one with something to send ends that: however much
# waits in a lane, it is not read. In a lane, what waits for a time of its own stands behind the rest, by its time.
_LANES = """
WITH RECURSIVE lanes (lane) AS (
    SELECT min(lane) FROM deliveries INDEXED BY deliveries_open
    WHERE channel_type = :channel_type AND platform_id = :platform_id AND lane > :after
      AND status IN ('pending', 'sending')
    UNION ALL
    SELECT (SELECT min(lane) FROM deliveries INDEXED BY deliveries_open
        WHERE channel_type = :channel_type AND platform_id = :platform_id AND lane > lanes.lane
          AND status IN ('pending', 'sending'))
    FROM lanes WHERE lanes.lane IS NOT NULL
)
"""
NEXT = f"""
{_LANES}
SELECT d.*, s.agent_group_id,
    (SELECT i.platform_message_id FROM ingest i WHERE i.message_id = d.in_reply_to AND i.kind <> 'agent'
        AND i.channel_type = d.channel_type AND i.platform_id = d.platform_id) AS reply_to,
    (SELECT f.platform_message_id FROM drafts f WHERE f.session_id = d.session_id AND d.kind = 'chat'
        AND d.in_reply_to IS NOT NULL AND d.deliver_after IS NULL AND f.channel_type = d.channel_type
        AND (d.from_host = 0 OR EXISTS (
            SELECT 1 FROM ingest i WHERE i.message_id = d.in_reply_to AND i.kind = 'chat'))
        AND f.platform_id = d.platform_id AND f.thread_id IS d.thread_id) AS draft_id
FROM lanes
CROSS JOIN deliveries d ON d.position = (
    SELECT min(position) FROM (
        SELECT * FROM (
            SELECT position FROM deliveries INDEXED BY deliveries_open
            WHERE channel_type = :channel_type AND platform_id = :platform_id AND lane = lanes.lane
              AND deliver_after IS NULL AND status IN ('pending', 'sending') AND status = 'pending'
            ORDER BY position LIMIT 1)
        UNION ALL SELECT * FROM (
            SELECT position FROM deliveries INDEXED BY deliveries_open
            WHERE channel_type = :channel_type AND platform_id = :platform_id AND lane = lanes.lane
              AND deliver_after <= :now AND status IN ('pending', 'sending') AND status = 'pending'
            ORDER BY deliver_after, position LIMIT 1)))
CROSS JOIN sessions s ON s.id = d.session_id
WHERE lanes.lane NOT IN (SELECT value FROM json_each(:resting))
LIMIT 1
"""
NEXT_DUE = f"""
{_LANES}
SELECT min((SELECT deliver_after FROM deliveries INDEXED BY deliveries_open
    WHERE channel_type = :channel_type AND platform_id = :platform_id AND lane = lanes.lane AND deliver_after > ''
      AND status IN ('pending', 'sending') AND status = 'pending'
    ORDER BY deliver_after LIMIT 1)) AS due
FROM lanes
"""
ANY_OPEN = """
SELECT 1 FROM deliveries INDEXED BY deliveries_open
WHERE channel_type = ? AND platform_id = ? AND status IN ('pending', 'sending') LIMIT 1
"""
CHATS_WITH_WORK = "SELECT DISTINCT channel_type, platform_id FROM deliveries WHERE status IN ('pending', 'sending')"
SENDING = """
UPDATE deliveries SET status = 'sending', attempts = attempts + 1, parts = ? WHERE position = ? AND status = 'pending'
"""
PART_SENT = """
UPDATE deliveries SET status = 'pending', parts = :parts, parts_sent = :number,
    platform_message_id = coalesce(platform_message_id, :id), is_doubtful = max(is_doubtful, :is_doubtful)
WHERE position = :position AND status IN ('pending', 'sending')
"""
ATTEMPTED = """
UPDATE deliveries SET status = 'pending', attempts = :attempts, error = :error, breaks = breaks + :broke,
    may_have_arrived = max(may_have_arrived, :in_doubt)
WHERE position = :position AND status IN ('pending', 'sending')
"""
# What was kept back while the platform was called may have arrived nevertheless, and so may what is given up after an
# attempt without an answer.
FINISH = """
UPDATE deliveries SET attempts = :attempts,
    status = CASE WHEN is_doubtful = 1 AND :status = 'delivered' THEN 'uncertain'
        WHEN max(may_have_arrived, :in_doubt) AND :status = 'failed' THEN 'uncertain' ELSE :status END,
    platform_message_id = coalesce(platform_message_id, :platform_message_id), error = :error, finished_at = :now,
    recorded = from_host
WHERE position = :position AND (status IN ('pending', 'sending')
    OR status = 'suppressed' AND :status IN ('delivered', 'uncertain'))
RETURNING session_id, status
"""
# Of a message in parts the one that was on its way is not sent again, and those behind it are.
INTERRUPTED_PART = """
UPDATE deliveries INDEXED BY deliveries_open SET status = 'pending', parts_sent = parts_sent + 1, is_doubtful = 1
WHERE status IN ('pending', 'sending') AND status = 'sending' AND parts_sent + 1 < parts
"""
# One that can be repeated was not marked before its attempt, which may have arrived.
INTERRUPTED_ATTEMPT = """
UPDATE deliveries INDEXED BY deliveries_open SET may_have_arrived = 1
WHERE status IN ('pending', 'sending') AND deliver_after IS NULL
"""
INTERRUPTED = """
UPDATE deliveries INDEXED BY deliveries_open
SET status = 'uncertain', error = ?, finished_at = ?, recorded = from_host
WHERE status IN ('pending', 'sending') AND status = 'sending'
"""
SUPPRESS_SESSION = """
UPDATE deliveries INDEXED BY deliveries_open_of_session SET status = 'suppressed', error = ?, finished_at = ?
WHERE session_id = ? AND status IN ('pending', 'sending') AND from_host = 0
"""
UNRECORDED = """
SELECT message_out_id, status, platform_message_id, error, attempts, finished_at
FROM deliveries INDEXED BY deliveries_unrecorded WHERE session_id = ? AND recorded = 0 LIMIT ?
"""
RECORDED = "UPDATE deliveries SET recorded = 1 WHERE session_id = ? AND message_out_id = ?"
SESSIONS_TO_RECORD = "SELECT DISTINCT session_id FROM deliveries WHERE recorded = 0"
UNSENT_ANSWER = """
SELECT 1 FROM deliveries INDEXED BY deliveries_open_of_session
WHERE session_id = ? AND deliver_after IS NULL AND in_reply_to = ? AND status IN ('pending', 'sending') LIMIT 1
"""
WAITING = """
SELECT count(*) AS n FROM (
    SELECT 1 FROM deliveries INDEXED BY deliveries_open_of_session
    WHERE session_id = ? AND status IN ('pending', 'sending') LIMIT ?)
"""
UNSENT_BECAUSE = """
SELECT error FROM deliveries
WHERE session_id = ? AND in_reply_to = ? AND from_host = 0 AND status = 'failed' LIMIT 1
"""
DELAYED = """
SELECT count(*) AS n FROM (
    SELECT 1 FROM deliveries INDEXED BY deliveries_open_of_session
    WHERE session_id = ? AND deliver_after > '' AND status IN ('pending', 'sending') LIMIT ?)
"""
NOTICE = """
SELECT 1 FROM deliveries INDEXED BY deliveries_notices
WHERE session_id = ? AND in_reply_to = ? AND from_host = 1 LIMIT 1
"""
NOTICES = """
SELECT count(*) AS n FROM (SELECT 1 FROM deliveries INDEXED BY deliveries_notices
    WHERE session_id = ? AND in_reply_to = ? AND from_host = 1 LIMIT ?)
"""
COUNTS = "SELECT count(*) AS n FROM deliveries WHERE status IN ('pending', 'sending')"
LAST_FAILURES = """
SELECT message_out_id, session_id, status, error, finished_at, channel_type || ':' || platform_id AS messaging_group
FROM deliveries WHERE status IN ('failed', 'uncertain') ORDER BY finished_at DESC LIMIT ?
"""

SENT_AS = """
SELECT message_out_id, content, session_id, kind, thread_id FROM deliveries INDEXED BY deliveries_by_platform_message
WHERE channel_type = :channel_type AND platform_id = :platform_id AND platform_message_id = :id
UNION ALL
SELECT d.message_out_id, d.content, d.session_id, d.kind, d.thread_id
FROM delivery_parts p INDEXED BY delivery_parts_by_platform_message JOIN deliveries d ON d.position = p.position
WHERE p.channel_type = :channel_type AND p.platform_id = :platform_id AND p.platform_message_id = :id
UNION ALL
SELECT message_out_id, content, session_id, kind, thread_id FROM deliveries
WHERE message_out_id = :id AND channel_type = :channel_type AND platform_id = :platform_id LIMIT 1
"""
SENT_OF_SESSION = """
SELECT position, parts, channel_type, platform_id, thread_id, platform_message_id, content FROM deliveries
WHERE session_id = ? AND message_out_id = ?
"""
GIVE_UP_CHAT = """
UPDATE deliveries INDEXED BY deliveries_open SET status = 'failed', error = :reason, finished_at = :now,
    recorded = from_host
WHERE channel_type = :channel_type AND platform_id = :platform_id AND status IN ('pending', 'sending')
RETURNING session_id
"""
SAID_IN = """
SELECT content FROM deliveries WHERE session_id = ? AND kind IN ('chat', 'card', 'question')
    AND (from_host = 0 OR in_reply_to IS NOT NULL) AND status <> 'suppressed' ORDER BY position LIMIT 200
"""
SAID_BY = """
SELECT s.agent_group_id FROM deliveries d INDEXED BY deliveries_by_platform_message
JOIN sessions s ON s.id = d.session_id
WHERE d.channel_type = :channel_type AND d.platform_id = :platform_id AND d.platform_message_id = :id
UNION ALL
SELECT s.agent_group_id FROM delivery_parts p INDEXED BY delivery_parts_by_platform_message
JOIN deliveries d ON d.position = p.position JOIN sessions s ON s.id = d.session_id
WHERE p.channel_type = :channel_type AND p.platform_id = :platform_id AND p.platform_message_id = :id
UNION ALL
SELECT s.agent_group_id FROM deliveries d JOIN sessions s ON s.id = d.session_id
WHERE d.message_out_id = :id AND d.channel_type = :channel_type AND d.platform_id = :platform_id LIMIT 1
"""

MOST_NOTICES = 3
"""Notices of the host's own about one message: its failure, and what became of what it was answered with."""

NO_MORE_NOTICES = (
    "There have been very many notices like this one here. Further ones are left out until the next hour; "
    "`dumbwaiter status` says what is going on."
)


@dataclass(frozen=True, slots=True)
class Delivery(Row):
    """One message on its way to one chat. `lane` is the conversation in it whose order it keeps: a route."""

    position: int
    message_out_id: str
    session_id: str
    agent_group_id: str
    turn_id: str | None
    in_reply_to: str | None
    kind: str
    from_host: int
    channel_type: str
    platform_id: str
    thread_id: str | None
    content: str
    deliver_after: str | None
    status: str
    attempts: int
    lane: str
    parts_sent: int = 0
    breaks: int = 0
    reply_to: str | None = None
    draft_id: str | None = None

    @property
    def chat(self) -> Chat:
        """The chat whose order this message keeps."""
        return (self.channel_type, self.platform_id)


@dataclass(frozen=True, slots=True)
class ChatHasNews(Effect):
    """There may be something to send to a chat. `following` is what is next there, where that is known."""

    chat: Chat
    following: Delivery | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class DeliveryOver(Effect):
    """A delivery of a session got its outcome, which the session's file is to be told."""

    session_id: str


def add(
    tx: Transaction,
    *,
    message_out_id: str,
    session_id: str,
    kind: str,
    channel_type: str,
    platform_id: str,
    thread_id: str | None,
    content: str,
    created_at: str,
    turn_id: str | None = None,
    in_reply_to: str | None = None,
    from_host: bool = False,
    deliver_after: str | None = None,
    status: str = "pending",
    error: str | None = None,
) -> bool:
    """Queue a message. False when it was queued before. One that is not to be sent comes with its final `status`."""
    if channel_type == NO_CHAT and status == "pending":
        status, error = "suppressed", "its schedule speaks nowhere"
    final = status not in ("pending", "sending")
    values = {
        "message_out_id": message_out_id,
        "session_id": session_id,
        "turn_id": turn_id,
        "in_reply_to": in_reply_to,
        "kind": kind,
        "from_host": int(from_host),
        "channel_type": channel_type,
        "platform_id": platform_id,
        "thread_id": thread_id,
        "content": content,
        "deliver_after": deliver_after,
        "created_at": created_at,
        "status": status,
        "error": error,
        "finished_at": created_at if final else None,
        "recorded": 0 if final and status != "suppressed" else 1,
    }
    if not tx.execute(INSERT, values).rowcount:
        return False
    if not final:
        tx.add(ChatHasNews((channel_type, platform_id)))
    return True


def add_notice(
    tx: Transaction,
    session_id: str,
    address: Address,
    in_reply_to: str | None,
    text: str,
    *,
    deliver_after: str | None = None,
) -> None:
    """Queue a notice of the host's own, in a chat.

    There are at most `MOST_NOTICES` about one message. Those that answer none are counted for their chat: beyond
    so many in an hour they are left out, and the last one says so.
    """
    if in_reply_to is not None:
        notices = one(tx, NOTICES, (session_id, in_reply_to, MOST_NOTICES))
        if notices is not None and notices["n"] >= MOST_NOTICES:
            return
    else:
        verdict = rate_limits.take(tx, Act.NOTICE, f"{address.channel_type}:{address.platform_id}")
        if not verdict.allowed:
            if not verdict.is_first:
                return
            text = f"{text}\n\n{NO_MORE_NOTICES}"
    add(
        tx,
        message_out_id=new_id(Prefix.MESSAGE),
        session_id=session_id,
        kind=MessageOutKind.CHAT,
        from_host=True,
        in_reply_to=in_reply_to,
        channel_type=address.channel_type,
        platform_id=address.platform_id,
        thread_id=address.thread_id,
        content=encode({"text": text}),
        deliver_after=deliver_after,
        created_at=tx.now,
    )


def sent_as(connection: Queryable, chat: Chat, message_id: str) -> sqlite3.Row | None:
    """What was sent to a chat, by the platform's id of it (or of a part) or by ours.

    Its `message_out_id`, `content`, `session_id`, `kind` and `thread_id`.
    """
    return one(connection, SENT_AS, {"channel_type": chat[0], "platform_id": chat[1], "id": message_id})


def said_in(connection: Queryable, session_id: str) -> list[sqlite3.Row]:
    """`content` of all that a session has said and of what the host has said of its messages, in order."""
    return connection.execute(SAID_IN, (session_id,)).fetchall()


def said_by(connection: Queryable, chat: Chat, message_id: str) -> str | None:
    """The agent group of what was sent to a chat, by the platform's id of it or by ours."""
    row = one(connection, SAID_BY, {"channel_type": chat[0], "platform_id": chat[1], "id": message_id})
    return None if row is None else row["agent_group_id"]


def next_for(
    connection: Queryable, chat: Chat, now: str, *, after: str = "", resting: Collection[str] = ()
) -> Delivery | None:
    """The message that is next to be sent to a chat, if one is due.

    Conversations take turns: it is of the first lane behind `after` (the one that was served last) that has something
    to send and is not `resting`. In its lane it is the oldest of those without a time of their own, or the one whose
    time has come first, whichever was queued first.
    """
    values = {
        "channel_type": chat[0],
        "platform_id": chat[1],
        "now": now,
        "after": after,
        "resting": json.dumps(sorted(resting)),
    }
    row = one(connection, NEXT, values)
    if row is None and after:  # the round is over, and begins anew
        row = one(connection, NEXT, values | {"after": ""})
    return None if row is None else Delivery.from_row(row)


def is_any_open(connection: Queryable, chat: Chat) -> bool:
    """Whether anything waits to be sent to a chat, now or later, or is being sent."""
    return one(connection, ANY_OPEN, chat) is not None


def next_due(connection: Queryable, chat: Chat) -> str | None:
    """When the earliest delayed message of a chat is due."""
    row = one(connection, NEXT_DUE, {"channel_type": chat[0], "platform_id": chat[1], "after": ""})
    return None if row is None else row["due"]


def mark_sending(tx: Transaction, position: int, parts: int = 1) -> bool:
    """Note that the platform is about to be called. False when the message is not waiting any more."""
    return tx.execute(SENDING, (parts, position)).rowcount > 0


def mark_part(
    tx: Transaction,
    position: int,
    number: int,
    parts: int,
    platform_message_id: str | None,
    *,
    is_doubtful: bool = False,
) -> bool:
    """Note that a part of a message was sent, or (`is_doubtful`) may have been. False: nothing more is to be sent."""
    values = {
        "position": position,
        "number": number,
        "parts": parts,
        "id": platform_message_id,
        "is_doubtful": int(is_doubtful),
    }
    return tx.execute(PART_SENT, values).rowcount > 0


def sent_of_session(connection: Queryable, session_id: str, message_out_id: str) -> sqlite3.Row | None:
    """What became of a message of a session: `position`, `parts`, address, `platform_message_id` and `content`."""
    return one(connection, SENT_OF_SESSION, (session_id, message_out_id))


def give_up_chat(tx: Transaction, chat: Chat, reason: str) -> None:
    """Fail all that waits for a chat that is gone."""
    values = {"channel_type": chat[0], "platform_id": chat[1], "reason": reason, "now": tx.now}
    for row in tx.execute(GIVE_UP_CHAT, values).fetchall():
        tx.add(DeliveryOver(row["session_id"]))


def mark_attempted(
    tx: Transaction, position: int, attempts: int, error: str, *, in_doubt: bool = False, broke: bool = False
) -> None:
    """Back to waiting, to be sent again: it did not arrive, or (`in_doubt`) that is not known and a repeat is harmless.

    `broke`: the channel itself failed.
    """
    values = {"position": position, "attempts": attempts, "error": error}
    tx.execute(ATTEMPTED, values | {"in_doubt": int(in_doubt), "broke": int(broke)})


def finish(
    tx: Transaction,
    position: int,
    status: str,
    *,
    attempts: int,
    platform_message_id: str | None = None,
    error: str | None = None,
    in_doubt: bool = False,
) -> str | None:
    """Note what became of a message; the agent is told with the next record. None when it has an outcome already.

    Returns the status it has now: what failed is `uncertain` where an attempt, this one (`in_doubt`) or one before, had
    no answer of the platform.
    """
    values = {
        "position": position,
        "status": status,
        "attempts": attempts,
        "platform_message_id": platform_message_id,
        "error": error,
        "now": tx.now,
        "in_doubt": int(in_doubt),
    }
    row = one(tx, FINISH, values)
    if row is None:
        return None
    tx.add(DeliveryOver(row["session_id"]))
    return str(row["status"])


def mark_interrupted(tx: Transaction, error: str) -> int:
    """At the start of a host: what the last one was sending may or may not have arrived. How many."""
    tx.execute(INTERRUPTED_PART)
    tx.execute(INTERRUPTED_ATTEMPT)
    return tx.execute(INTERRUPTED, (error, tx.now)).rowcount


def suppress_session(tx: Transaction, session_id: str, reason: str) -> None:
    """Keep what an ended session still had to say, and do not send it. The host's own notices go out."""
    tx.execute(SUPPRESS_SESSION, (reason, tx.now, session_id))


def unrecorded(connection: Queryable, session_id: str, limit: int = 500) -> list[sqlite3.Row]:
    """What `inbound.db: delivered` has still to be told."""
    return connection.execute(UNRECORDED, (session_id, limit)).fetchall()


def mark_recorded(tx: Transaction, session_id: str, rows: Sequence[sqlite3.Row]) -> None:
    """Note that `inbound.db` says so now."""
    tx.executemany(RECORDED, [(session_id, row["message_out_id"]) for row in rows])


def sessions_to_record(connection: Queryable) -> list[str]:
    """Sessions that were not told of all outcomes."""
    return [row["session_id"] for row in connection.execute(SESSIONS_TO_RECORD)]


def chats_with_work(connection: Queryable) -> list[Chat]:
    """Chats that something waits for."""
    return [(row["channel_type"], row["platform_id"]) for row in connection.execute(CHATS_WITH_WORK)]


def is_answer_out(connection: Queryable, session_id: str, in_reply_to: str) -> bool:
    """Whether everything that answers a message so far has been sent, or has failed to be."""
    return one(connection, UNSENT_ANSWER, (session_id, in_reply_to)) is None


def waiting_count(connection: Queryable, session_id: str, limit: int) -> int:
    """How many messages of a session wait to be sent; not counted beyond `limit`."""
    row = one(connection, WAITING, (session_id, limit))
    return 0 if row is None else int(row["n"])


def delayed_count(connection: Queryable, session_id: str, limit: int) -> int:
    """How many messages of a session wait for a time of their own; not counted beyond `limit`."""
    row = one(connection, DELAYED, (session_id, limit))
    return 0 if row is None else int(row["n"])


def unsent_because(connection: Queryable, session_id: str, in_reply_to: str) -> str | None:
    """Why an answer of an agent's to that message was not sent and never will be; None when there is none."""
    row = one(connection, UNSENT_BECAUSE, (session_id, in_reply_to))
    return None if row is None else str(row["error"] or "it was refused")


def has_notice(connection: Queryable, session_id: str, in_reply_to: str) -> bool:
    """Whether the person who wrote that message was told of a failure before."""
    return one(connection, NOTICE, (session_id, in_reply_to)) is not None


def waiting(connection: Queryable) -> int:
    """How many messages wait to be sent."""
    row = one(connection, COUNTS)
    return 0 if row is None else int(row["n"])


def last_failures(connection: Queryable, limit: int = 5) -> list[sqlite3.Row]:
    """The newest messages that could not be delivered, or may have been."""
    return connection.execute(LAST_FAILURES, (limit,)).fetchall()
