"""The only writer of `inbound.db`: open, one transaction, close. Closing the file is what wakes a running agent.

Everything is idempotent: a message that is there already is left as it is, tables that are pushed are replaced whole.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from host.sessions.untrusted_files import sync_folder
from shared_schema.database import open_writer, reader, transaction, translate
from shared_schema.dataclass import dataclass
from shared_schema.descriptors import trouble
from shared_schema.layout import SessionLayout
from shared_schema.migrate import INBOUND, migrate
from shared_schema.rows import Address, ContextKey, Delivered, Destination

INSERT_MESSAGE = """
INSERT INTO messages_in (id, kind, timestamp, generation, trigger, channel_type, platform_id, thread_id, sender_id,
    sender_name, content)
VALUES (:id, :kind, :timestamp, :generation, :trigger, :channel_type, :platform_id, :thread_id, :sender_id,
    :sender_name, :content)
ON CONFLICT (id) DO NOTHING
"""
SET_STATUS = "UPDATE messages_in SET status = ?, tries = ? WHERE id = ?"
SET_DELIVERED = """
INSERT INTO delivered (message_out_id, status, platform_message_id, error, attempts, delivered_at)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (message_out_id) DO UPDATE SET status = excluded.status,
    platform_message_id = excluded.platform_message_id, error = excluded.error, attempts = excluded.attempts,
    delivered_at = excluded.delivered_at
"""
CLEAR_DESTINATIONS = "DELETE FROM destinations"
INSERT_DESTINATION = """
INSERT INTO destinations (name, display_name, type, channel_type, platform_id, agent_group_id)
VALUES (?, ?, ?, ?, ?, ?)
"""
SET_ROUTING = """
INSERT INTO session_routing (id, channel_type, platform_id, thread_id) VALUES (1, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET channel_type = excluded.channel_type, platform_id = excluded.platform_id,
    thread_id = excluded.thread_id
"""
# What waited in an older generation was cancelled with it, also where the host died before it could say so here.
CANCEL_OLDER = "UPDATE messages_in SET status = 'cancelled' WHERE status = 'pending' AND generation < ?"
CLEAR_CONTEXT = "DELETE FROM session_context"
INSERT_CONTEXT = "INSERT INTO session_context (key, value) VALUES (?, ?)"

# Of a JSON array of message ids, those that the file does not have.
MISSING = """
SELECT value AS id FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM messages_in WHERE id = value)
"""
PENDING = "SELECT id FROM messages_in INDEXED BY messages_in_pending WHERE status = 'pending' ORDER BY seq LIMIT ?"

MAX_PENDING = 10_000

_BUSY_SECONDS = 0.4
"""The agent's reads take a millisecond; one that holds the file is not waited for for long."""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to insert; its `seq` is the file's to give. `content` is JSON."""

    id: str
    kind: str
    timestamp: str
    generation: int
    trigger: int
    address: Address
    sender_id: str | None
    sender_name: str | None
    content: str


@dataclass(frozen=True, slots=True)
class Push:
    """What an agent needs to know before it wakes: where replies go by default, whom it may write to, and the rest."""

    routing: Address | None
    destinations: Sequence[Destination]
    context: Mapping[ContextKey, str]


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """The host's copy of what became of a message that came in."""

    message_id: str
    status: str
    tries: int


def update(
    layout: SessionLayout,
    *,
    messages: Sequence[NewMessage] = (),
    push: Push | None = None,
    statuses: Sequence[StatusUpdate] = (),
    delivered: Sequence[Delivered] = (),
    require_sole: Callable[[], object] = lambda: None,
) -> None:
    """Write all of it in one transaction, in this order, into a file that an older host may have made. Blocks.

    `require_sole` raises where another host may write by now: it is asked last, as for the ledger
    (`host/central/database.py`), because this may have waited for a reader, or slept. Raises what it raises, and
    `FileTrouble` (`NewerSchema` for a file that is more than one version newer); then nothing was written.
    """
    try:
        with closing(open_writer(layout.inbound, busy_seconds=_BUSY_SECONDS)) as connection:
            migrate(connection, INBOUND, ahead=1)
            with transaction(connection):
                if push is not None:
                    _push(connection, push)
                for message in messages:
                    _insert(connection, message)
                connection.executemany(SET_STATUS, [(item.status, item.tries, item.message_id) for item in statuses])
                connection.executemany(SET_DELIVERED, [_values(item) for item in delivered])
                require_sole()
    except sqlite3.Error as error:
        raise translate(error, layout.inbound) from error


def missing(layout: SessionLayout, message_ids: Sequence[str]) -> set[str]:
    """Which of these messages the file does not have. Blocks. Raises `FileTrouble`."""
    with reader(layout.inbound, busy_seconds=_BUSY_SECONDS) as connection:
        return {row["id"] for row in connection.execute(MISSING, (json.dumps(list(message_ids)),))}


def pending(layout: SessionLayout) -> list[str]:
    """The messages for which the file names no outcome, 10,000 at most. Blocks. Raises `FileTrouble`."""
    with reader(layout.inbound, busy_seconds=_BUSY_SECONDS) as connection:
        return [row["id"] for row in connection.execute(PENDING, (MAX_PENDING,))]


def put_aside(layout: SessionLayout, stamp: str) -> str:
    """Rename a file that is no good, so that another is made in its place; the name it is kept under.

    Blocks. Raises `FileTrouble`.
    """
    kept = layout.inbound.with_name(f"{layout.inbound.name}.unreadable-{stamp}")
    journal = layout.inbound.with_name(f"{layout.inbound.name}-journal")
    try:
        if os.path.lexists(journal):  # of the file that is no good: it must not be rolled back into the new one
            os.rename(journal, kept.with_name(f"{kept.name}-journal"))
        os.rename(layout.inbound, kept)
        sync_folder(layout.folder)
    except OSError as error:
        raise trouble(error, "the file cannot be put aside", layout.inbound) from error
    return kept.name


def _push(connection: sqlite3.Connection, push: Push) -> None:
    connection.execute(CLEAR_DESTINATIONS)
    connection.executemany(
        INSERT_DESTINATION,
        [(d.name, d.display_name, d.type, d.channel_type, d.platform_id, d.agent_group_id) for d in push.destinations],
    )
    routing = push.routing
    if routing is not None:
        connection.execute(SET_ROUTING, (routing.channel_type, routing.platform_id, routing.thread_id))
    if (generation := push.context.get(ContextKey.GENERATION)) is not None:
        connection.execute(CANCEL_OLDER, (int(generation),))
    connection.execute(CLEAR_CONTEXT)
    connection.executemany(INSERT_CONTEXT, [(key, value) for key, value in push.context.items()])


def _values(item: Delivered) -> tuple[object, ...]:
    return (
        item.message_out_id,
        item.status,
        item.platform_message_id,
        item.error,
        item.attempts,
        item.delivered_at,
    )


def _insert(connection: sqlite3.Connection, message: NewMessage) -> None:
    connection.execute(
        INSERT_MESSAGE,
        {
            "id": message.id,
            "kind": message.kind,
            "timestamp": message.timestamp,
            "generation": message.generation,
            "trigger": message.trigger,
            "channel_type": message.address.channel_type,
            "platform_id": message.address.platform_id,
            "thread_id": message.address.thread_id,
            "sender_id": message.sender_id,
            "sender_name": message.sender_name,
            "content": message.content,
        },
    )
