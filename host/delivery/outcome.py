"""What becomes of a message that came in: its agent's acknowledgement, or that it cannot be answered any more."""

from __future__ import annotations

import logging

from host.central import deliveries, ingest
from host.central.database import Transaction
from host.delivery import control_results
from shared_schema.dataclass import dataclass
from shared_schema.ids import Prefix, is_id
from shared_schema.rows import Ack, AckStatus, Address, MessageInKind, MessageInStatus

log = logging.getLogger(__name__)

_MAX_ERROR = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an acknowledgement changed. `final`: the message got its outcome.

    `exchanged`: something that a person wrote was answered.
    """

    final: bool = False
    exchanged: bool = False


def take_ack(tx: Transaction, session_id: str, ack: Ack, row: ingest.AcceptedMessage | None, *, more: bool) -> Outcome:
    """Take over what became of a message; `row` is the ledger's of it, as it was before.

    `more`: the agent's file has rows that are read the next time.

    A control task gets its outcome not before its answer, which may be among those.
    """
    if row is None or (row.kind == MessageInKind.CONTROL and more):
        return Outcome()
    turn_id = str(ack.turn_id) if row.turn_id != ack.turn_id and is_id(ack.turn_id, Prefix.TURN) else None
    if ack.status == AckStatus.COMPLETED:
        completed = MessageInStatus.COMPLETED
        if not ingest.finish(tx, session_id, ack.message_id, completed, turn_id=turn_id):
            if turn_id is not None:  # it has its outcome, and was taken all the same
                ingest.note_turn(tx, session_id, ack.message_id, turn_id)
            return Outcome()
        if row.kind == MessageInKind.CONTROL:
            control_results.ended(tx, session_id, row, None)
            return Outcome(final=True)
        return Outcome(final=True, exchanged=row.kind == MessageInKind.CHAT and bool(row.trigger))
    if turn_id is not None:
        ingest.note_turn(tx, session_id, ack.message_id, turn_id)
    if ack.status == AckStatus.FAILED:
        sentence = ack.error[:_MAX_ERROR] if isinstance(ack.error, str) and ack.error else "the turn failed"
        return Outcome(fail_message(tx, session_id, ack.message_id, sentence))
    return Outcome()


def fail_message(tx: Transaction, session_id: str, message_id: str, sentence: str) -> bool:
    """Give a message the outcome `failed` and tell the person who asked, once, in the same transaction.

    Returns whether it had no outcome before. Context, which asks nothing, fails silently.
    """
    row = ingest.get(tx, message_id)
    if row is None or not ingest.finish(tx, session_id, message_id, MessageInStatus.FAILED, error=sentence):
        return False
    log.warning("a message failed", extra={"session_id": session_id, "message_id": message_id, "error": sentence})
    if row.kind == MessageInKind.CONTROL:
        control_results.ended(tx, session_id, row, sentence)
    elif (
        row.trigger and row.kind != MessageInKind.TASK
    ):  # of a task its owner is told, and the log of its schedule says it
        address = Address(row.channel_type, row.platform_id, row.thread_id)
        deliveries.add_notice(tx, session_id, address, message_id, f"This message could not be answered: {sentence}")
    return True
