"""From `outbound.db` into the ledger: messages to deliver, outcomes of messages, turns. One transaction for each look.

The cursor moves in the same transaction as the copies are made, so every row is taken once. Everything is checked here.
What does not pass never holds up what follows it: it is recorded, and where it was an answer, the agent gets it back as
`failed` and the person who asked is told.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from host.central import agent_groups, deliveries, ingest, sessions, turns
from host.central.database import Central
from host.central.deliveries import Delivery
from host.delivery import errand
from host.delivery import turn as turn_taken
from host.delivery.address import address_of
from host.delivery.check import CheckedMessage, RowRefused, checked, turn_problem
from host.delivery.request import Request, request_of
from host.sessions.attachments import AttachmentRefused, FileLimits, take
from host.sessions.outbox import BadRow, Glimpse
from shared_schema.clock import Clock, to_text
from shared_schema.errors import FileDamaged, InvalidValue
from shared_schema.ids import Prefix, is_id
from shared_schema.layout import SessionLayout
from shared_schema.rows import (
    Ack,
    AckStatus,
    Address,
    MessageInKind,
    MessageInStatus,
    MessageOut,
    MessageOutKind,
    Turn,
    encode,
)

_MAX_ERROR = 500
_STALE = "the conversation was reset or ended before this was said"

Chat = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A row, and either its checked message with the files the host has copied, or why it is refused."""

    row: MessageOut
    message: CheckedMessage | None
    files: tuple[str, ...] = ()
    refusal: str | None = None


@dataclass(slots=True)
class Copied:
    """What a copy changed: chats that have something to send, messages that got their outcome, what was refused.

    `chats` come with the message that is the next to be sent there. `accepted` are sessions that have
    something new to be written; `wants_title` says that the agent is to be asked for one when it rests.
    """

    chats: dict[Chat, Delivery | None] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)
    refused: list[BadRow] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)  # what the agent asks of the host, to be answered now
    exchanged: bool = False  # something that somebody wrote was answered
    wants_title: bool = False


class Copier:
    """Takes over what agents wrote."""

    def __init__(self, central: Central, clock: Clock, *, file_limits: FileLimits, max_text: int) -> None:
        self._central = central
        self._clock = clock
        self._file_limits = file_limits
        self._max_text = max_text

    def copy(self, session_id: str, layout: SessionLayout, glimpse: Glimpse) -> Future[Copied]:
        """Check a glimpse, take its files, and put it into the ledger. Blocks, but for the ledger.

        The future raises `FileTrouble` when the host's own disk fails; then nothing was taken, and the same is read
        again.
        """
        candidates = [self._candidate(layout, row) for row in glimpse.messages]
        return self._central.submit(lambda connection: self._store(connection, session_id, glimpse, candidates))

    def _candidate(self, layout: SessionLayout, row: MessageOut) -> _Candidate:
        try:
            message = checked(row, max_text=self._max_text)
            files = take(layout, row.seq, message.id, message.files, self._file_limits) if message.files else []
        except RowRefused as error:
            return _Candidate(row, None, refusal=str(error))
        except (AttachmentRefused, FileDamaged, InvalidValue) as error:
            return _Candidate(row, None, refusal=error.what)
        return _Candidate(row, message, tuple(files))

    def _store(
        self, connection: sqlite3.Connection, session_id: str, glimpse: Glimpse, candidates: Sequence[_Candidate]
    ) -> Copied:
        now = to_text(self._clock.now())
        session = sessions.get(connection, session_id)
        copied = Copied(refused=list(glimpse.bad_rows))
        of_turn: dict[str | None, list[Ack]] = {}
        for ack in glimpse.acks:
            of_turn.setdefault(ack.turn_id, []).append(ack)
        for turn in glimpse.turns:
            _store_turn(connection, session, turn, of_turn.get(turn.id, []), now, copied)
        acks = deque(glimpse.acks)  # in the order of the messages they are about
        place = {ack.message_id: number for number, ack in enumerate(glimpse.acks)}
        for candidate in candidates:
            # The failure of an earlier message is told before the answer to a later one.
            answered = place.get(candidate.row.in_reply_to or "", 0)
            while acks and place[acks[0].message_id] < answered:
                _store_ack(connection, session, acks.popleft(), now, copied, more=glimpse.more)
            _store_candidate(connection, session, candidate, now, copied)
            if copied.accepted:
                session = sessions.get(connection, session_id)  # it may be over
        for ack in acks:
            _store_ack(connection, session, ack, now, copied, more=glimpse.more)
        copied.wants_title = copied.exchanged and errand.wants_title(connection, session, now)
        for bad in copied.refused:
            turns.refuse(connection, session.id, bad.what, bad.reason, now)
        sessions.advance(connection, session.id, glimpse.out_cursor, glimpse.turn_cursor)
        if copied.chats or copied.finished:
            sessions.touch(connection, session.id, now)
        for chat in copied.chats:
            copied.chats[chat] = deliveries.next_for(connection, chat, now)
        return copied


def fail_message(
    connection: sqlite3.Connection, session_id: str, message_id: str, sentence: str, now: str
) -> tuple[bool, Chat | None]:
    """Give a message the outcome `failed` and tell the person who asked, once, in the same transaction.

    Whether it had no outcome before, and the chat that is told (context, which nobody asked, fails silently).
    """
    row = ingest.get(connection, message_id)
    if row is None or not ingest.finish(
        connection, session_id, message_id, MessageInStatus.FAILED, now=now, error=sentence
    ):
        return False, None
    if row.kind == MessageInKind.CONTROL:
        return True, errand.ended(connection, session_id, row, sentence, now)
    if not row.trigger:
        return True, None
    address = Address(row.channel_type, row.platform_id, row.thread_id)
    return True, deliveries.add_notice(
        connection, session_id, address, message_id, f"This message could not be answered: {sentence}", now
    )


def _store_candidate(
    connection: sqlite3.Connection, session: sessions.Session, candidate: _Candidate, now: str, copied: Copied
) -> None:
    refusal = candidate.refusal
    if candidate.message is not None:
        try:
            if candidate.message.kind == MessageOutKind.SYSTEM and (asked := request_of(candidate.message)):
                copied.requests.append(asked)
                chat = None
            elif candidate.message.kind == MessageOutKind.SYSTEM:
                goes_on_in = errand.take(connection, session, candidate.message, now)
                copied.accepted += goes_on_in
                chat = errand.tell_of_summary(connection, session, goes_on_in, now)
            else:
                chat = _store_message(connection, session, candidate.message, candidate.files, now)
        except RowRefused as error:
            refusal = str(error)
        else:
            if chat is not None:
                copied.chats[chat] = None
    if refusal is not None:
        copied.refused.append(BadRow(f"out-{candidate.row.seq}", refusal))
        chat = _give_back(connection, session, candidate.row, refusal, now)
        if chat is not None:
            copied.chats[chat] = None


def _store_message(
    connection: sqlite3.Connection,
    session: sessions.Session,
    message: CheckedMessage,
    files: tuple[str, ...],
    now: str,
) -> Chat | None:
    """Queue one message; its chat, or None when it is kept and not sent. Raises `RowRefused`."""
    address = address_of(
        message,
        replies=_replies(connection, session, message.in_reply_to),
        routing=ingest.last_address(connection, session.id),
        destinations=agent_groups.destinations(connection, session.agent_group_id),
    )
    stale = session.status != "active" or message.generation != session.generation
    content: dict[str, object] = {"text": message.text}
    if files:
        content["files"] = list(files)
    added = deliveries.add(
        connection,
        message_out_id=message.id,
        session_id=session.id,
        turn_id=message.turn_id,
        in_reply_to=message.in_reply_to,
        kind=message.kind,
        channel_type=address.channel_type,
        platform_id=address.platform_id,
        thread_id=address.thread_id,
        content=encode(content) if message.kind == MessageOutKind.CHAT else message.content,
        deliver_after=message.deliver_after,
        created_at=now,
        status="suppressed" if stale else "pending",
        error=_STALE if stale else None,
    )
    if not added:
        raise RowRefused("its id was used before")
    return None if stale else (address.channel_type, address.platform_id)


def _give_back(
    connection: sqlite3.Connection, session: sessions.Session, row: MessageOut, refusal: str, now: str
) -> Chat | None:
    """A refused answer: the agent finds it `failed`, and the person who asked is told once; the chat of that."""
    if not is_id(row.id, Prefix.MESSAGE) or not isinstance(row.in_reply_to, str) or session.status != "active":
        return None
    address = _replies(connection, session, row.in_reply_to).get(row.in_reply_to)
    if address is None or not deliveries.add(
        connection,
        message_out_id=row.id,
        session_id=session.id,
        in_reply_to=row.in_reply_to,
        kind=MessageOutKind.CHAT,
        channel_type=address.channel_type,
        platform_id=address.platform_id,
        thread_id=address.thread_id,
        content="{}",
        created_at=now,
        status="failed",
        error=refusal,
    ):
        return None
    if deliveries.has_notice(connection, session.id, row.in_reply_to):
        return None
    return deliveries.add_notice(
        connection, session.id, address, row.in_reply_to, f"An answer could not be sent: {refusal}", now
    )


def _replies(connection: sqlite3.Connection, session: sessions.Session, in_reply_to: str | None) -> dict[str, Address]:
    """The address of the message that is answered, if it is one of this session's and somebody wrote it."""
    row = None if in_reply_to is None else ingest.get(connection, in_reply_to)
    if row is None or row.session_id != session.id or row.kind == MessageInKind.CONTROL:
        return {}
    return {row.message_id: Address(row.channel_type, row.platform_id, row.thread_id)}


def _store_turn(
    connection: sqlite3.Connection,
    session: sessions.Session,
    turn: Turn,
    acks: Sequence[Ack],
    now: str,
    copied: Copied,
) -> None:
    problem = turn_problem(turn)
    if problem is not None:
        copied.refused.append(BadRow("a turn", problem))
        return
    copied.chats.update(dict.fromkeys(turn_taken.store(connection, session, turn, acks, now)))
    if (told := errand.compress_when_full(connection, session, turn, now)) is not None:
        copied.chats[told] = None
        copied.accepted.append(session.id)


def _store_ack(
    connection: sqlite3.Connection, session: sessions.Session, ack: Ack, now: str, copied: Copied, *, more: bool
) -> None:
    """Take over what became of a message. Of an errand not before its answer, which may be among what is left over."""
    row = ingest.get(connection, ack.message_id)
    if row is None or (row.kind == MessageInKind.CONTROL and more):
        return
    if row.turn_id != ack.turn_id and is_id(ack.turn_id, Prefix.TURN):
        ingest.note_turn(connection, session.id, ack.message_id, str(ack.turn_id))
    done = False
    if ack.status == AckStatus.COMPLETED:
        done = ingest.finish(connection, session.id, ack.message_id, MessageInStatus.COMPLETED, now=now)
        if done and row.kind == MessageInKind.CONTROL:
            chat = errand.ended(connection, session.id, row, None, now)
            if chat is not None:
                copied.chats[chat] = None
        elif done and row.kind == MessageInKind.CHAT and row.trigger:
            copied.exchanged = True
    elif ack.status == AckStatus.FAILED:
        sentence = ack.error[:_MAX_ERROR] if isinstance(ack.error, str) and ack.error else "the turn failed"
        done, chat = fail_message(connection, session.id, ack.message_id, sentence, now)
        if chat is not None:
            copied.chats[chat] = None
    if done:
        copied.finished.append(ack.message_id)
