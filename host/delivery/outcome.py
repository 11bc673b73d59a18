"""What becomes of a message that came in: its agent's acknowledgement, or that it cannot be answered any more."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass

from host.central import deliveries, ingest
from host.central.deliveries import Chat
from host.delivery import control_results
from shared_schema.ids import Prefix, is_id
from shared_schema.rows import Ack, AckStatus, Address, MessageInKind, MessageInStatus

log = logging.getLogger(__name__)

_MAX_ERROR = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an acknowledgement changed. `final`: the message got its outcome. `told`: a chat that is told of it.

    `exchanged`: something that a person wrote was answered.
    """

    final: bool = False
    told: Chat | None = None
    exchanged: bool = False


def take_ack(
    connection: sqlite3.Connection,
    session_id: str,
    ack: Ack,
    row: ingest.AcceptedMessage | None,
    now: str,
    *,
    more: bool,
) -> Outcome:
    """Take over what became of a message; `row` is the ledger's of it, as it was before.

    `more`: the agent's file has rows that are read the next time.

    A control task gets its outcome not before its answer, which may be among those.
    """
    if row is None or (row.kind == MessageInKind.CONTROL and more):
        return Outcome()
    turn_id = str(ack.turn_id) if row.turn_id != ack.turn_id and is_id(ack.turn_id, Prefix.TURN) else None
    if ack.status == AckStatus.COMPLETED:
        completed = MessageInStatus.COMPLETED
        if not ingest.finish(connection, session_id, ack.message_id, completed, now=now, turn_id=turn_id):
            if turn_id is not None:  # it has its outcome, and was taken all the same
                ingest.note_turn(connection, session_id, ack.message_id, turn_id)
            return Outcome()
        if row.kind == MessageInKind.CONTROL:
            return Outcome(final=True, told=control_results.ended(connection, session_id, row, None, now))
        return Outcome(final=True, exchanged=row.kind == MessageInKind.CHAT and bool(row.trigger))
    if turn_id is not None:
        ingest.note_turn(connection, session_id, ack.message_id, turn_id)
    if ack.status == AckStatus.FAILED:
        sentence = ack.error[:_MAX_ERROR] if isinstance(ack.error, str) and ack.error else "the turn failed"
        final, told = fail_message(connection, session_id, ack.message_id, sentence, now)
        return Outcome(final, told)
    return Outcome()


def fail_message(
    connection: sqlite3.Connection, session_id: str, message_id: str, sentence: str, now: str
) -> tuple[bool, Chat | None]:
    """Give a message the outcome `failed` and tell the person who asked, once, in the same transaction.

    Returns whether it had no outcome before, and the chat that is told (context, which asks nothing, fails silently).
    """
    row = ingest.get(connection, message_id)
    if row is None or not ingest.finish(
        connection, session_id, message_id, MessageInStatus.FAILED, now=now, error=sentence
    ):
        return False, None
    log.warning("a message failed", extra={"session_id": session_id, "message_id": message_id, "error": sentence})
    if row.kind == MessageInKind.CONTROL:
        return True, control_results.ended(connection, session_id, row, sentence, now)
    if not row.trigger:
        return True, None
    if row.kind == MessageInKind.TASK:
        return True, None  # its owner is told, and the log of its schedule says it
    address = Address(row.channel_type, row.platform_id, row.thread_id)
    return True, deliveries.add_notice(
        connection, session_id, address, message_id, f"This message could not be answered: {sentence}", now
    )
