"""What comes of a turn: the host's copy, the resume pointer, what it used. Everything once, when the turn is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from host.central import deliveries, events, ingest, sessions, turns, usage
from host.central.database import Queryable, Transaction
from host.central.events import EventKind
from shared_schema.rows import Ack, AckStatus, Address, MessageInKind, Turn, TurnStatus

_MAX_ERROR = 500
_AFRESH = "The provider could not take up its own record of this conversation and begins afresh. The transcript stays."


def store(
    tx: Transaction,
    session: sessions.Session,
    turn: Turn,
    acks: Sequence[Ack],
    *,
    is_known: bool,
    rows: Mapping[str, ingest.AcceptedMessage],
) -> bool:
    """Take over what an agent says of a turn. `acks` are of its messages, `rows` the ledger's of those.

    `is_known`: the host has heard of the turn before.

    Returns whether the turn has begun or ended by that.
    """
    taken = [row for ack in acks if (row := rows.get(ack.message_id)) is not None and row.session_id == session.id]
    is_over = turns.copy(
        tx,
        session.id,
        turn,
        generation=session.generation,
        tries=max((row.tries for row in taken), default=0),
        error=next((error for ack in acks if (error := _error(ack)) is not None), None),
    )
    if is_over or not is_known:
        kind = EventKind.TURN_ENDED if is_over else EventKind.TURN_STARTED
        data = {"turn_id": turn.id, "status": turn.status}
        events.add(tx, kind, session_id=session.id, agent_group_id=session.agent_group_id, data=data)
    if not is_over:
        return not is_known
    notices = [_point(tx, session, turn), _fallback(tx, session, turn, taken)]
    if usage.record(tx, session.id, session.agent_group_id, turn):
        notices.append(usage.warning(tx, session.agent_group_id))
    said = [notice for notice in notices if notice is not None]
    if not said or (address := _address(tx, session, acks)) is None:
        return True
    for notice in said:
        deliveries.add_notice(tx, session.id, address, None, notice)
    return True


def _error(ack: Ack) -> str | None:
    return ack.error[:_MAX_ERROR] if ack.status == AckStatus.FAILED and isinstance(ack.error, str) else None


def _point(tx: Transaction, session: sessions.Session, turn: Turn) -> str | None:
    """Keep the resume pointer that a turn brought, or drop the one it could not use; what is to be said of it.

    A turn of a conversation that was taken back meanwhile changes nothing.
    """
    if turn.generation not in (None, session.generation):
        return None
    sessions.keep_pointer(tx, session.id, turn.provider_session_id, turn.provider)
    if turn.status != TurnStatus.COMPLETED or not turn.resume_refused:
        return None
    if not turn.provider_session_id:
        sessions.drop_pointer(tx, session.id)
    return _AFRESH if session.status == "active" else None


def _fallback(
    connection: Queryable, session: sessions.Session, turn: Turn, taken: Sequence[ingest.AcceptedMessage]
) -> str | None:
    """That another model has answered: said once, until the agent's own answers again."""
    if not turn.fallback or turn.status != TurnStatus.COMPLETED or session.kind != "chat":
        return None
    if all(row.kind == MessageInKind.CONTROL for row in taken):
        return None  # a title is asked for by the host
    model, why = turns.answered_before(connection, session.id, turn.id)
    if why and model == turn.model:
        return None
    return f"{_one_line(turn.model or '?', 300)} answers for now: {_one_line(turn.fallback, 900)}."


def _one_line(text: str, most: int) -> str:
    return " ".join(text.split())[:most]


def _address(connection: Queryable, session: sessions.Session, acks: Sequence[Ack]) -> Address | None:
    """The chat of a turn: of one of its messages, or of the newest message of the session."""
    for ack in acks:
        row = ingest.get(connection, ack.message_id)
        if row is not None and row.session_id == session.id and row.trigger:
            return Address(row.channel_type, row.platform_id, row.thread_id)
    return ingest.last_address(connection, session.id)
