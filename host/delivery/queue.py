"""What an agent says gets its place in the queue of its chat, or is given back to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from host.central import chat_moves, deliveries, home_channels, ingest, questions, refusals
from host.central.database import Queryable, Transaction
from host.central.deliveries import NO_CHAT
from host.central.sessions import Session
from host.delivery.address import address_of
from host.delivery.check import CheckedMessage, RowRefused
from host.schedules.outcome import is_silent
from host.schedules.quiet import held_in_chat
from shared_schema.ids import Prefix, is_id
from shared_schema.rows import Address, MessageInKind, MessageOut, MessageOutKind, decode, encode

_STALE = "the conversation was reset or ended before this was said"
_TAKEN_BACK = "the message that this answers was changed or deleted while it waited"

_MOST_DELAYED = 200
"""Messages of one session that wait for a time of their own: more than the plans of any real conversation."""


def enqueue(
    tx: Transaction,
    session: Session,
    message: CheckedMessage,
    files: tuple[str, ...],
    known: Mapping[str, ingest.AcceptedMessage],
) -> None:
    """Queue one message, or keep it where it is not to be sent. Raises `RowRefused`.

    `known` are rows of the ledger that were read before; others are read here.
    """
    answered = _answered(tx, session, message.in_reply_to, known)
    names_place, answers = message.destination is not None, message.in_reply_to is not None
    address = address_of(
        message,
        replies=_replies(answered),
        routing=None if names_place or answers else ingest.last_address(tx, session.id),
        destinations=home_channels.reachable(tx, session.agent_group_id) if names_place else (),
    )
    here = chat_moves.current(tx, address.channel_type, address.platform_id)
    if here != address.platform_id:  # it answers what was said before its chat moved
        address = replace(address, platform_id=here)
    stale = session.status != "active" or message.generation != session.generation
    unsaid = _STALE if stale else _unsaid(message, answered, address)
    if message.deliver_after is not None and unsaid is None:
        _require_room(tx, session)
    held = _held(tx, answered, address, tx.now)
    content: dict[str, object] = {"text": message.text}
    if files:
        content["files"] = list(files)
    added = deliveries.add(
        tx,
        message_out_id=message.id,
        session_id=session.id,
        turn_id=message.turn_id,
        in_reply_to=message.in_reply_to,
        kind=message.kind,
        channel_type=address.channel_type,
        platform_id=address.platform_id,
        thread_id=address.thread_id,
        content=encode(content) if message.kind == MessageOutKind.CHAT else message.canonical,
        deliver_after=max(filter(None, (message.deliver_after, held)), default=None),
        created_at=tx.now,
        status="pending" if unsaid is None else "suppressed",
        error=unsaid,
    )
    if not added:
        raise RowRefused("its id was used before")
    if message.kind == MessageOutKind.QUESTION and unsaid is None:
        _wait_for_answer(tx, session, message, answered, address)


def _held(connection: Queryable, answered: ingest.AcceptedMessage | None, address: Address, now: str) -> str | None:
    """Until when something said in the run of a schedule is held: for the quiet hours of its chat."""
    if answered is None or answered.kind != MessageInKind.TASK or decode(answered.content).get("urgent"):
        return None
    return held_in_chat(connection, address, now)


def _unsaid(message: CheckedMessage, answered: ingest.AcceptedMessage | None, address: Address) -> str | None:
    """Why something said in a conversation that goes on is kept and not sent; None: it is sent."""
    # An agent may take a message at the moment in which its person changes it: the ledger knows of that first.
    if answered is not None and answered.is_taken_back:
        return _TAKEN_BACK
    if address.channel_type == NO_CHAT:
        return "its schedule speaks nowhere"
    is_run = answered is not None and answered.kind == MessageInKind.TASK
    if is_run and message.kind == MessageOutKind.CHAT and is_silent(message.text):
        return "it had nothing to say"
    return None


def give_back(tx: Transaction, session: Session, row: MessageOut, refusal: str) -> None:
    """A refused answer: the agent finds it `failed`, and the person who asked is told once."""
    if not is_id(row.id, Prefix.MESSAGE) or not isinstance(row.in_reply_to, str) or session.status != "active":
        return
    address = _replies(_answered(tx, session, row.in_reply_to)).get(row.in_reply_to)
    if address is None or not deliveries.add(
        tx,
        message_out_id=row.id,
        session_id=session.id,
        in_reply_to=row.in_reply_to,
        kind=MessageOutKind.CHAT,
        channel_type=address.channel_type,
        platform_id=address.platform_id,
        thread_id=address.thread_id,
        content="{}",
        created_at=tx.now,
        status="failed",
        error=refusal,
    ):
        return
    if row.kind == MessageOutKind.SYSTEM or deliveries.has_notice(tx, session.id, row.in_reply_to):
        return  # what is for the host alone goes to no chat
    deliveries.add_notice(tx, session.id, address, row.in_reply_to, f"An answer could not be sent: {refusal}")


def _require_room(connection: Queryable, session: Session) -> None:
    if deliveries.delayed_count(connection, session.id, _MOST_DELAYED) >= _MOST_DELAYED:
        raise RowRefused(f"{_MOST_DELAYED} messages of this conversation wait for their time already")


def _answered(
    connection: Queryable,
    session: Session,
    in_reply_to: str | None,
    known: Mapping[str, ingest.AcceptedMessage] = MappingProxyType({}),
) -> ingest.AcceptedMessage | None:
    """Returns the message that is answered, if it is one of this session's and a person wrote it."""
    row = None if in_reply_to is None else known.get(in_reply_to) or ingest.get(connection, in_reply_to)
    if row is None or row.session_id != session.id or row.kind == MessageInKind.CONTROL:
        return None
    return row


def _replies(row: ingest.AcceptedMessage | None) -> dict[str, Address]:
    return {} if row is None else {row.message_id: Address(row.channel_type, row.platform_id, row.thread_id)}


def _wait_for_answer(
    tx: Transaction,
    session: Session,
    message: CheckedMessage,
    answered: ingest.AcceptedMessage | None,
    address: Address,
) -> None:
    """The person who is answered is asked, where that is: their next message there needs no mention."""
    if answered is None or answered.sender_id is None or message.deliver_after is not None:
        return
    if address != Address(answered.channel_type, answered.platform_id, answered.thread_id):
        return
    needs_mention = questions.ask(
        tx,
        session_id=session.id,
        route_id=session.route_id,
        message_out_id=message.id,
        address=address,
        sender_id=answered.sender_id,
        expires=message.content.get("expires"),
    )
    if needs_mention is not None:
        refusals.refuse(tx, session.id, f"out-{message.seq}", needs_mention)
