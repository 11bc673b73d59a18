"""The ledger of accepted messages: accepted, written, and then exactly one outcome.

It holds what people wrote (`chat`), what the host asks of an agent (`control`), and what people ask of the host
(`command`, which goes into no session's file).

An outcome is final: every statement that sets one asks for `status = 'pending'` first. `recorded = 0` says that
`inbound.db` has still to be told.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence

from host.central.database import Effect, Queryable, Transaction, one
from shared_schema.dataclass import dataclass
from shared_schema.rows import Address, MessageInKind, MessageInStatus, Row, decode

INSERT = """
INSERT INTO ingest (message_id, agent_group_id, session_id, generation, channel_type, platform_id, thread_id,
    platform_message_id, sender_id, sender_name, kind, trigger, content, spool, accepted_at, hops, traceparent, state)
VALUES (:message_id, :agent_group_id, :session_id, :generation, :channel_type, :platform_id, :thread_id,
    :platform_message_id, :sender_id, :sender_name, :kind, :trigger, :content, :spool, :accepted_at, :hops,
    :traceparent, CASE :kind WHEN 'command' THEN 'written' ELSE 'accepted' END)
ON CONFLICT DO NOTHING RETURNING *
"""
DUPLICATE = """
SELECT * FROM ingest
WHERE agent_group_id = ? AND channel_type = ? AND platform_id = ? AND platform_message_id = ?
"""
BY_ID = "SELECT * FROM ingest WHERE message_id = ?"
BY_IDS = "SELECT * FROM ingest WHERE message_id IN (SELECT value FROM json_each(?))"
ACCEPTED = """
SELECT * FROM ingest INDEXED BY ingest_open
WHERE session_id = ? AND state = 'accepted' AND status = 'pending' ORDER BY position LIMIT ?
"""
SESSIONS_WITH_WORK = """
SELECT DISTINCT session_id FROM ingest WHERE status = 'pending' AND session_id IS NOT NULL AND kind <> 'command'
"""
SESSIONS_TO_RECORD = "SELECT DISTINCT session_id FROM ingest WHERE recorded = 0 AND session_id IS NOT NULL"
# What got its outcome while it was being written is told to the file afterwards.
WRITTEN = """
UPDATE ingest SET state = 'written', written_at = coalesce(written_at, ?),
    recorded = CASE status WHEN 'pending' THEN recorded ELSE 0 END
WHERE message_id = ? RETURNING recorded
"""
OPEN = """
SELECT message_id, trigger, tries FROM ingest INDEXED BY ingest_open
WHERE session_id = ? AND status = 'pending' AND state = 'written' AND kind <> 'command' ORDER BY position LIMIT ?
"""
UNANSWERED = """
SELECT message_id FROM ingest INDEXED BY ingest_open
WHERE session_id = ? AND status = 'pending' AND kind <> 'command'
ORDER BY position LIMIT ?
"""
FINISH = """
UPDATE ingest SET status = ?, error = ?, finished_at = ?, recorded = (state <> 'written'),
    turn_id = coalesce(?, turn_id)
WHERE message_id = ? AND session_id = ? AND status = 'pending'
"""
# A command of a person's is the host's own work: no session needs to be told, and no ending of one cancels it.
FINISH_COMMAND = """
UPDATE ingest SET status = ?, error = ?, finished_at = ? WHERE message_id = ? AND status = 'pending'
"""
COMMANDS = "SELECT * FROM ingest WHERE kind = 'command' AND status = 'pending' ORDER BY position"
CANCEL_SESSION = """
UPDATE ingest INDEXED BY ingest_open SET status = 'cancelled', finished_at = ?, recorded = (state <> 'written')
WHERE session_id = ? AND status = 'pending' AND kind <> 'command' RETURNING trigger
"""
# The newest messages that an agent sent here from elsewhere stay; older ones without an answer do not.
CANCEL_OLD_CONTEXT = """
UPDATE ingest SET status = 'cancelled', finished_at = :now, recorded = (state <> 'written')
WHERE message_id IN (
    SELECT message_id FROM ingest INDEXED BY ingest_open
    WHERE session_id = :session_id AND status = 'pending' AND kind = 'agent' AND trigger = 0
    ORDER BY position DESC LIMIT -1 OFFSET :most)
"""
# The same of what people wrote that was not meant for the agent; and what is too old to matter.
CANCEL_OLD_HEARD = """
UPDATE ingest SET status = 'cancelled', finished_at = :now, recorded = (state <> 'written')
WHERE message_id IN (
    SELECT message_id FROM ingest INDEXED BY ingest_open
    WHERE session_id = :session_id AND status = 'pending' AND kind = 'chat' AND trigger = 0
    ORDER BY position DESC LIMIT -1 OFFSET :most)
OR message_id IN (
    SELECT message_id FROM ingest INDEXED BY ingest_open
    WHERE session_id = :session_id AND status = 'pending' AND kind = 'chat' AND trigger = 0 AND accepted_at < :since)
"""
# The id of a platform's message stays with what stands in its place. An error says of both that the person took it
# back while it waited: an agent that has begun with it before its file says so is not heard on it.
SUPERSEDE = """
UPDATE ingest SET status = 'cancelled', error = 'it was changed', finished_at = :now, recorded = (state <> 'written'),
    platform_message_id = platform_message_id || '/' || message_id
WHERE message_id = :message_id AND status = 'pending'
"""
CANCEL = """
UPDATE ingest SET status = 'cancelled', error = 'it was deleted', finished_at = ?, recorded = (state <> 'written')
WHERE message_id = ? AND status = 'pending' RETURNING session_id
"""
# CROSS JOIN: the few agent groups first, and for each of them a look by the key. Left to itself SQLite walks through
# all that was ever accepted, with each reaction of a person's.
OF_PLATFORM_MESSAGE = """
SELECT i.* FROM agent_groups a CROSS JOIN ingest i ON i.agent_group_id = a.id AND i.channel_type = ?
    AND i.platform_id = ? AND i.platform_message_id = ?
"""
BEGINNING_WITH = """
SELECT * FROM ingest
WHERE agent_group_id = ? AND channel_type = ? AND platform_id = ? AND platform_message_id >= ?
    AND platform_message_id < ?
ORDER BY platform_message_id LIMIT 20
"""
FREE_PLATFORM_ID = (
    "UPDATE ingest SET platform_message_id = platform_message_id || '/' || message_id WHERE message_id = ?"
)
NOTE_TURN = "UPDATE ingest SET turn_id = ? WHERE message_id = ? AND session_id = ?"
FORGET_CONTENT = "UPDATE ingest SET content = '{}', spool = NULL, sender_name = NULL WHERE session_id = ?"
COUNT_TRY = (
    "UPDATE ingest SET tries = tries + 1, recorded = 0 WHERE message_id = ? AND status = 'pending' RETURNING tries"
)
UNRECORDED = """
SELECT message_id, status, tries FROM ingest INDEXED BY ingest_unrecorded
WHERE session_id = ? AND recorded = 0 AND state = 'written' LIMIT ?
"""
RECORDED = "UPDATE ingest SET recorded = 1 WHERE message_id = ? AND status = ? AND tries = ?"
# What a session's file must hold: its newest messages, and all that are open.
WRITTEN_ROWS = """
SELECT * FROM (
    SELECT * FROM (
        SELECT * FROM ingest INDEXED BY ingest_by_session
        WHERE session_id = :session_id AND state = 'written' AND kind <> 'command' ORDER BY position DESC LIMIT :limit)
    UNION
    SELECT * FROM ingest INDEXED BY ingest_open
    WHERE session_id = :session_id AND state = 'written' AND status = 'pending' AND kind <> 'command')
ORDER BY position
"""
STANDING = """
SELECT value AS message_id, i.status, coalesce(i.tries, 0) AS tries FROM json_each(:ids)
LEFT JOIN ingest i ON i.message_id = value AND i.session_id = :session_id
"""
LAST_ADDRESS = """
SELECT channel_type, platform_id, thread_id FROM ingest
WHERE session_id = ? AND kind <> 'control' AND (trigger = 1 OR kind NOT IN ('chat', 'agent'))
ORDER BY position DESC LIMIT 1
"""
LAST_HOPS = """
SELECT hops FROM ingest WHERE session_id = ? AND trigger = 1 AND kind <> 'control' ORDER BY position DESC LIMIT 1
"""
FIRST_SENDER = "SELECT sender_name FROM ingest WHERE session_id = ? AND kind = ? ORDER BY position LIMIT 1"
SPOOL_IN_USE = "SELECT 1 FROM ingest WHERE spool = ? AND state = 'accepted' AND status = 'pending' LIMIT 1"
SPOOLS_IN_USE = (
    "SELECT DISTINCT spool FROM ingest WHERE spool IS NOT NULL AND state = 'accepted' AND status = 'pending'"
)
BACKLOG = """
SELECT count(*) AS messages, min(accepted_at) AS oldest FROM ingest
WHERE status = 'pending' AND trigger = 1 AND kind <> 'control'
"""
LAST_FAILURES = """
SELECT message_id, session_id, error, finished_at FROM ingest
WHERE status = 'failed' AND kind <> 'control' AND error IS NOT :but
ORDER BY position DESC LIMIT :limit
"""

SAID_IN_CHAT = """
SELECT * FROM ingest
WHERE position > :position AND channel_type = :channel_type AND platform_id = :platform_id
    AND kind IN ('chat', 'command')
ORDER BY position LIMIT :limit
"""
OPEN_IN_CHAT = """
SELECT * FROM ingest INDEXED BY ingest_open
WHERE status = 'pending' AND trigger = 1 AND channel_type = :channel_type AND platform_id = :platform_id
  AND agent_group_id = :agent_group_id AND kind = 'chat'
ORDER BY position LIMIT :limit
"""
NEWEST = "SELECT coalesce(max(position), 0) AS position FROM ingest"
OLDEST_UNANSWERED = """
SELECT * FROM ingest INDEXED BY ingest_open
WHERE session_id = ? AND status = 'pending' AND trigger = 1 AND kind <> 'command' ORDER BY position LIMIT 1
"""

COMMAND = "command"
"""The kind of what people ask of the host."""

ACCEPTED_LIMIT = 100
"""How many accepted messages are written into a session's file at a time."""

OPEN_LIMIT = 500
"""How many open messages of a session are looked after at a time."""


@dataclass(frozen=True, slots=True)
class AcceptedMessage(Row):
    """A row of the ledger. `content` is the JSON that `messages_in` gets, but for the paths of files."""

    position: int
    message_id: str
    agent_group_id: str
    session_id: str | None
    generation: int
    channel_type: str
    platform_id: str
    thread_id: str | None
    platform_message_id: str
    sender_id: str | None
    sender_name: str | None
    kind: str
    trigger: int
    content: str
    spool: str | None
    accepted_at: str
    state: str
    status: str
    tries: int
    error: str | None
    turn_id: str | None
    withdrawn: int
    hops: int
    traceparent: str | None
    written_at: str | None

    @property
    def is_taken_back(self) -> bool:
        """Whether the person changed or deleted it while it waited."""
        return self.status == "cancelled" and self.error is not None


@dataclass(frozen=True, slots=True)
class OpenMessage(Row):
    """A written message without an outcome."""

    message_id: str
    trigger: int
    tries: int


@dataclass(frozen=True, slots=True)
class SessionHasNews(Effect):
    """A session has something that is to be written, or is over.

    `is_asked`: a person or an agent waits for an answer; `in_background`: it is work of a schedule, which can wait.
    """

    session_id: str
    is_asked: bool = False
    in_background: bool = False


@dataclass(frozen=True, slots=True)
class CommandAccepted(Effect):
    """A person has written a command, which is to be carried out."""

    message_id: str


@dataclass(frozen=True, slots=True)
class CommandOver(Effect):
    """A command got its outcome: what was written after it can be taken."""

    message_id: str


@dataclass(frozen=True, slots=True)
class MessageOver(Effect):
    """A message got its outcome."""


def accept(tx: Transaction, values: dict[str, object], *, in_background: bool = False) -> tuple[AcceptedMessage, bool]:
    """Store an event for one agent group. An event that was accepted before is returned as it is, with False.

    `hops` may be left out: how often agents have answered each other since a person wrote; and so may `traceparent`,
    the place of who handed it in in a trace. `in_background`: its session can wait for others.
    """
    if (new := one(tx, INSERT, {"hops": 0, "traceparent": None} | values)) is not None:
        accepted = AcceptedMessage.from_row(new)
        if accepted.kind == COMMAND:
            tx.add(CommandAccepted(accepted.message_id))
        elif accepted.session_id is not None:
            is_asked = bool(accepted.trigger) and accepted.kind != MessageInKind.TASK
            tx.add(SessionHasNews(accepted.session_id, is_asked, in_background))
        return accepted, True
    row = one(
        tx,
        DUPLICATE,
        (values["agent_group_id"], values["channel_type"], values["platform_id"], values["platform_message_id"]),
    )
    assert row is not None
    return AcceptedMessage.from_row(row), False


def last_hops(connection: Queryable, session_id: str) -> int:
    """How often agents had written to each other before the newest message that wants an answer."""
    row = one(connection, LAST_HOPS, (session_id,))
    return 0 if row is None else int(row["hops"])


def text_of(row: AcceptedMessage) -> str:
    """What was written, without its files."""
    return str(decode(row.content).get("text", ""))


def known(
    connection: Queryable, agent_group_id: str, channel_type: str, platform_id: str, platform_message_id: str
) -> AcceptedMessage | None:
    """What became of an event that was accepted before."""
    row = one(connection, DUPLICATE, (agent_group_id, channel_type, platform_id, platform_message_id))
    return None if row is None else AcceptedMessage.from_row(row)


def get(connection: Queryable, message_id: str) -> AcceptedMessage | None:
    """The ledger's row of a message."""
    row = one(connection, BY_ID, (message_id,))
    return None if row is None else AcceptedMessage.from_row(row)


def get_all(connection: Queryable, message_ids: Sequence[str]) -> dict[str, AcceptedMessage]:
    """The ledger's rows of some messages, by their ids."""
    rows = connection.execute(BY_IDS, (json.dumps(list(message_ids)),)) if message_ids else ()
    return {row["message_id"]: AcceptedMessage.from_row(row) for row in rows}


def accepted(connection: Queryable, session_id: str, limit: int = ACCEPTED_LIMIT) -> list[AcceptedMessage]:
    """What has still to be written into the session, in the order of acceptance."""
    return [AcceptedMessage.from_row(row) for row in connection.execute(ACCEPTED, (session_id, limit))]


def mark_written(tx: Transaction, message_ids: Collection[str], written_at: str | None = None) -> bool:
    """Note that `inbound.db` has these messages, since `written_at` (now, unless it is said).

    True when one of them got its outcome on its way there (it was cancelled): the file is to be told.
    """
    recorded = [tx.execute(WRITTEN, (written_at or tx.now, message_id)).fetchone() for message_id in message_ids]
    return any(row is not None and not row["recorded"] for row in recorded)


def open_messages(connection: Queryable, session_id: str, limit: int = OPEN_LIMIT) -> list[OpenMessage]:
    """The oldest written messages without an outcome."""
    return [OpenMessage.from_row(row) for row in connection.execute(OPEN, (session_id, limit))]


def unanswered(connection: Queryable, session_id: str, limit: int = 10_000) -> list[str]:
    """The ids of all messages of a session that have no outcome, written or not."""
    return [row["message_id"] for row in connection.execute(UNANSWERED, (session_id, limit))]


def finish(
    tx: Transaction,
    session_id: str,
    message_id: str,
    status: MessageInStatus,
    *,
    error: str | None = None,
    turn_id: str | None = None,
) -> bool:
    """Give a message its outcome, by a turn if one is named. False when it has one or is not of this session."""
    return _over(tx, tx.execute(FINISH, (status, error, tx.now, turn_id, message_id, session_id)))


def note_turn(tx: Transaction, session_id: str, message_id: str, turn_id: str) -> None:
    """Note which turn took a message."""
    tx.execute(NOTE_TURN, (turn_id, message_id, session_id))


def finish_command(tx: Transaction, message_id: str, status: MessageInStatus, *, error: str | None = None) -> bool:
    """Give a command its outcome. False when it has one."""
    if not tx.execute(FINISH_COMMAND, (status, error, tx.now, message_id)).rowcount:
        return False
    tx.add(CommandOver(message_id))
    return True


def commands(connection: Queryable) -> list[AcceptedMessage]:
    """The commands that were accepted and not carried out, oldest first."""
    return [AcceptedMessage.from_row(row) for row in connection.execute(COMMANDS)]


def cancel_session(tx: Transaction, session_id: str) -> int:
    """Cancel all open messages of a session; how many of them were to be answered."""
    tx.add(SessionHasNews(session_id))
    tx.add(MessageOver())
    return sum(row["trigger"] for row in tx.execute(CANCEL_SESSION, (tx.now, session_id)).fetchall())


def cancel_old_context(tx: Transaction, session_id: str, most: int) -> int:
    """Cancel what an agent said in a session from elsewhere and no turn has taken, but for the newest; how many."""
    values = {"session_id": session_id, "most": most, "now": tx.now}
    return tx.execute(CANCEL_OLD_CONTEXT, values).rowcount


def cancel_old_heard(tx: Transaction, session_id: str, most: int, since: str) -> None:
    """Cancel what was only heard in a session and no turn has taken: all but the newest, and what is older."""
    values = {"session_id": session_id, "most": most, "since": since, "now": tx.now}
    tx.execute(CANCEL_OLD_HEARD, values)


def of_platform_message(
    connection: Queryable, channel_type: str, platform_id: str, platform_message_id: str
) -> list[AcceptedMessage]:
    """What became of one message of a platform, with each agent group that took it."""
    rows = connection.execute(OF_PLATFORM_MESSAGE, (channel_type, platform_id, platform_message_id))
    return [AcceptedMessage.from_row(row) for row in rows]


def beginning_with(
    connection: Queryable, agent_group_id: str, address: Address, beginning: str
) -> list[AcceptedMessage]:
    """What an agent group has taken in a chat whose platform's id begins so; some of it."""
    values = (agent_group_id, address.channel_type, address.platform_id, beginning, f"{beginning}\U0010ffff")
    return [AcceptedMessage.from_row(row) for row in connection.execute(BEGINNING_WITH, values)]


def free_platform_id(tx: Transaction, message_id: str) -> None:
    """Let the id that a platform gave a message be that of another one."""
    tx.execute(FREE_PLATFORM_ID, (message_id,))


def supersede(tx: Transaction, message_id: str) -> bool:
    """Cancel an open message for another one that takes its place, and its platform's id. False when it is not open."""
    return _over(tx, tx.execute(SUPERSEDE, {"message_id": message_id, "now": tx.now}))


def cancel(tx: Transaction, message_id: str) -> bool:
    """Cancel one open message. False when it is not open."""
    row = one(tx, CANCEL, (tx.now, message_id))
    if row is None:
        return False
    tx.add(MessageOver())
    if row["session_id"] is not None:
        tx.add(SessionHasNews(row["session_id"]))
    return True


def _over(tx: Transaction, changed: sqlite3.Cursor) -> bool:
    if not changed.rowcount:
        return False
    tx.add(MessageOver())
    return True


def forget_content(tx: Transaction, session_id: str) -> None:
    """Drop what people wrote in a session; that the events were accepted stays known."""
    tx.execute(FORGET_CONTENT, (session_id,))


def count_try(tx: Transaction, message_id: str) -> int:
    """Count a turn that died over a message; how many that makes. 0 when it has an outcome already."""
    row = one(tx, COUNT_TRY, (message_id,))
    return 0 if row is None else int(row["tries"])


def unrecorded(connection: Queryable, session_id: str, limit: int = 500) -> list[sqlite3.Row]:
    """`message_id, status, tries` of which `inbound.db` has still to be told."""
    return connection.execute(UNRECORDED, (session_id, limit)).fetchall()


def mark_recorded(tx: Transaction, rows: Sequence[sqlite3.Row]) -> None:
    """Note that `inbound.db` says so now; a row that changed meanwhile stays unrecorded."""
    tx.executemany(RECORDED, [(row["message_id"], row["status"], row["tries"]) for row in rows])


def written(connection: Queryable, session_id: str, limit: int) -> list[AcceptedMessage]:
    """The newest messages that `inbound.db` was given, and all of them that are open, oldest first."""
    values = {"session_id": session_id, "limit": limit}
    return [AcceptedMessage.from_row(row) for row in connection.execute(WRITTEN_ROWS, values)]


def standing(connection: Queryable, session_id: str, message_ids: Sequence[str]) -> list[sqlite3.Row]:
    """`message_id, status, tries` of some messages; the status of one that is not of this session is None."""
    values = {"ids": json.dumps(list(message_ids)), "session_id": session_id}
    return connection.execute(STANDING, values).fetchall()


def first_sender(connection: Queryable, session_id: str, kind: str = MessageInKind.CHAT) -> str | None:
    """Returns the name of the first writer in a session, as it was then: later messages do not change it."""
    row = one(connection, FIRST_SENDER, (session_id, kind))
    return None if row is None else row["sender_name"]


def last_address(connection: Queryable, session_id: str) -> Address | None:
    """Where the newest message of a session came from: its default reply address.

    What its agent said in the chat of another session stands there as context, and asks for nothing.
    """
    row = one(connection, LAST_ADDRESS, (session_id,))
    return None if row is None else Address.from_row(row)


def sessions_with_work(connection: Queryable) -> list[str]:
    """Sessions with messages that have no outcome yet, or of whose outcome they were not told."""
    rows = [*connection.execute(SESSIONS_WITH_WORK), *connection.execute(SESSIONS_TO_RECORD)]
    return list(dict.fromkeys(row["session_id"] for row in rows))


def spools_in_use(connection: Queryable) -> set[str]:
    """The spool folders that accepted events still need."""
    return {row["spool"] for row in connection.execute(SPOOLS_IN_USE)}


def spool_in_use(connection: Queryable, spool: str) -> bool:
    """Whether an accepted event still needs this spool folder."""
    return one(connection, SPOOL_IN_USE, (spool,)) is not None


def backlog(connection: Queryable) -> tuple[int, str | None]:
    """How many messages wait for an answer, and since when the oldest does."""
    row = one(connection, BACKLOG)
    assert row is not None
    return int(row["messages"]), row["oldest"]


def last_failures(connection: Queryable, *, but: str, limit: int = 5) -> list[sqlite3.Row]:
    """The newest messages that failed, without those with the error `but`."""
    return connection.execute(LAST_FAILURES, {"but": but, "limit": limit}).fetchall()


def said_in_chat(
    connection: Queryable, channel_type: str, platform_id: str, position: int, limit: int = 100
) -> list[AcceptedMessage]:
    """What people wrote in a chat behind a position, oldest first, whichever agent took it."""
    values = {"channel_type": channel_type, "platform_id": platform_id, "position": position, "limit": limit}
    return [AcceptedMessage.from_row(row) for row in connection.execute(SAID_IN_CHAT, values)]


def open_in_chat(
    connection: Queryable, channel_type: str, platform_id: str, agent_group_id: str, limit: int = 100
) -> list[AcceptedMessage]:
    """What an agent group has still to answer in a chat, oldest first."""
    values = {
        "channel_type": channel_type,
        "platform_id": platform_id,
        "agent_group_id": agent_group_id,
        "limit": limit,
    }
    return [AcceptedMessage.from_row(row) for row in connection.execute(OPEN_IN_CHAT, values)]


def oldest_unanswered(connection: Queryable, session_id: str) -> AcceptedMessage | None:
    """The message that a session's agent works on, or takes next; None when nothing asks for an answer."""
    row = one(connection, OLDEST_UNANSWERED, (session_id,))
    return None if row is None else AcceptedMessage.from_row(row)


def newest(connection: Queryable) -> int:
    """The position of the last message that was accepted; 0 when there is none."""
    position: int = connection.execute(NEWEST).fetchone()["position"]
    return position
