"""From `outbound.db` into the ledger: messages to deliver, outcomes of messages, turns. One transaction for each read.

The cursor moves in the same transaction as the copies are made, so every row is taken once. Everything is checked here.
What does not pass never holds up what follows it: it is recorded, and where it was an answer, the agent gets it back as
`failed` and the person who asked is told.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import field

from host.central import deliveries, ingest, rate_limits, refusals, sessions, turns
from host.central.database import Central, Transaction, is_of_a_row
from host.central.deliveries import ChatHasNews
from host.central.quota import DEFAULT, Kept, Quota
from host.central.rate_limits import Act
from host.central.sessions import Session
from host.delivery import control_results
from host.delivery import turn as turn_taken
from host.delivery.check import CheckedMessage, RowRefused, checked, turn_problem
from host.delivery.outcome import Outcome, take_ack
from host.delivery.queue import enqueue, give_back
from host.delivery.request import AgentAsks, request_of
from host.sessions.attachments import AttachmentRefused, FileLimits, take
from host.sessions.outbox import BadRow, OutboxSnapshot
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileDamaged, FileTrouble, InvalidValue
from shared_schema.layout import SessionLayout
from shared_schema.rows import (
    Ack,
    MessageOut,
    MessageOutKind,
    Turn,
)

log = logging.getLogger(__name__)

_ROWS_OF_TURN = 4
"""Rows that become of one turn: its copy, its usage, and two events."""


_Boundary = Callable[[Transaction, str, "Copied"], AbstractContextManager[None]]
"""What is around each row: the transaction, what the row is, and what was copied so far."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A row, and either its checked message with the files the host has copied, or why it is refused."""

    row: MessageOut
    message: CheckedMessage | None
    files: tuple[str, ...] = ()
    refusal: str | None = None


@dataclass(slots=True)
class Copied:
    """What a copy changed: messages that got their outcome, turns, and what was refused."""

    kept: Kept
    rows: dict[str, ingest.AcceptedMessage]  # the ledger's, of the messages that were acknowledged
    finished: list[str] = field(default_factory=list)
    refused: list[BadRow] = field(default_factory=list)
    exchanged: bool = False  # something that a person wrote was answered
    turns: list[Turn] = field(default_factory=list)  # that began or ended, as far as the host had not known
    struck: set[Act] = field(default_factory=set)  # limits that held something back this time

    def settle(self, message_id: str, outcome: Outcome) -> None:
        """An acknowledgement of a message was taken."""
        self.exchanged |= outcome.exchanged
        if outcome.final:
            self.finished.append(message_id)


class Copier:
    """Takes over what agents wrote."""

    def __init__(self, central: Central, *, file_limits: FileLimits, max_text: int, quota: Quota = DEFAULT) -> None:
        self._central = central
        self._file_limits = file_limits
        self._max_text = max_text
        self._quota = quota

    def copy(self, session_id: str, layout: SessionLayout, snapshot: OutboxSnapshot) -> Future[Copied]:
        """Check a snapshot, take its files, and put it into the ledger. Blocks, but for the ledger.

        The future raises `FileTrouble` when the host's own disk fails; then nothing was taken, and the same is read
        again.
        """
        candidates = [self._candidate(layout, row) for row in snapshot.messages]
        return self._central.submit(self._store, session_id, snapshot, candidates)

    def _candidate(self, layout: SessionLayout, row: MessageOut) -> _Candidate:
        try:
            message = checked(row, max_text=self._max_text)
            files = take(layout, row.seq, message.id, message.files, self._file_limits) if message.files else []
        except RowRefused as error:
            return _Candidate(row, None, refusal=str(error))
        except (AttachmentRefused, FileDamaged, InvalidValue) as error:
            return _Candidate(row, None, refusal=error.what)
        except (FileTrouble, OSError):
            raise  # the host's own disk: all of it is read again
        except Exception as error:  # the boundary of one row: those behind it are taken
            log.exception("a row cannot be handled", extra={"row": f"out-{row.seq}"})
            return _Candidate(row, None, refusal=f"the host failed over it: {type(error).__name__}")
        return _Candidate(row, message, tuple(files))

    def _store(
        self, tx: Transaction, session_id: str, snapshot: OutboxSnapshot, candidates: Sequence[_Candidate]
    ) -> Copied:
        """Take all rows over; where the host fails over one, once more, with a boundary around each of them."""
        try:
            with tx.part("rows"):
                return self._store_rows(tx, session_id, snapshot, candidates, _no_boundary)
        except Exception as error:  # of one row, perhaps: then each row gets a boundary of its own
            if not is_of_a_row(error):
                raise
        return self._store_rows(tx, session_id, snapshot, candidates, _one_row)

    def _store_rows(
        self,
        tx: Transaction,
        session_id: str,
        snapshot: OutboxSnapshot,
        candidates: Sequence[_Candidate],
        boundary: _Boundary,
    ) -> Copied:
        row = sessions.row_of(tx, session_id)
        session = Session.from_row(row)
        copied = Copied(
            refused=list(snapshot.bad_rows),
            kept=Kept(self._quota, tx.now, row),
            rows=ingest.get_all(tx, [ack.message_id for ack in snapshot.acks]),
        )
        of_turn: dict[str | None, list[Ack]] = {}
        for ack in snapshot.acks:
            of_turn.setdefault(ack.turn_id, []).append(ack)
        for turn in snapshot.turns:
            with boundary(tx, "a turn", copied):
                _store_turn(tx, session, turn, of_turn.get(turn.id, []), copied)
        acks = deque(snapshot.acks)  # in the order of the messages they are about
        place = {ack.message_id: number for number, ack in enumerate(snapshot.acks)}
        for candidate in candidates:
            # The failure of an earlier message is told before the answer to a later one.
            answered = place.get(candidate.row.in_reply_to or "", 0)
            while acks and place[acks[0].message_id] < answered:
                self._take_ack(tx, session, acks.popleft(), snapshot, copied, boundary)
            with boundary(tx, f"out-{candidate.row.seq}", copied):
                _store_candidate(tx, session, candidate, copied)
            if candidate.message is not None and candidate.message.kind == MessageOutKind.SYSTEM:
                session = sessions.get(tx, session_id)  # it may be over
        for ack in acks:
            self._take_ack(tx, session, ack, snapshot, copied, boundary)
        if copied.exchanged and control_results.wants_title(tx, session):
            tx.add(control_results.WantsTitle(session.id))
        chats = [effect.chat for effect in tx.effects if isinstance(effect, ChatHasNews)]
        for bad in copied.refused:
            refusals.refuse(tx, session.id, bad.what, bad.reason)
        sessions.note_copy(
            tx,
            session.id,
            out_cursor=snapshot.out_cursor,
            turn_cursor=snapshot.turn_cursor,
            active_at=tx.now if chats or copied.finished else None,
            kept=copied.kept.values,
        )
        for chat in chats:  # what is next there costs the least here
            tx.add(ChatHasNews(chat, deliveries.next_for(tx, chat, tx.now)))
        return copied

    def _take_ack(
        self,
        tx: Transaction,
        session: Session,
        ack: Ack,
        snapshot: OutboxSnapshot,
        copied: Copied,
        boundary: _Boundary,
    ) -> None:
        row = copied.rows.get(ack.message_id)
        with boundary(tx, "an acknowledgement", copied):
            copied.settle(ack.message_id, take_ack(tx, session.id, ack, row, more=snapshot.more))


def _no_boundary(tx: Transaction, what: str, copied: Copied) -> AbstractContextManager[None]:
    return nullcontext()


@contextmanager
def _one_row(tx: Transaction, what: str, copied: Copied) -> Iterator[None]:
    """The boundary of one row: what the host fails over is refused, undone, and holds up nothing behind it.

    A fault of the ledger's own file is none of the row's: all of it is read again.
    """
    try:
        with tx.part("one_row"):  # without it half of a row would stay
            yield
    except Exception as error:  # of one row, which must not hold up the rows behind it
        if not is_of_a_row(error):
            raise
        log.exception("a row cannot be handled", extra={"row": what})
        copied.refused.append(BadRow(what, f"the host failed over it: {type(error).__name__}"))


def _store_candidate(tx: Transaction, session: sessions.Session, candidate: _Candidate, copied: Copied) -> None:
    refusal, message = candidate.refusal, candidate.message
    if (full := copied.kept.refusal()) is not None:  # nothing is given back: that would be kept, too
        copied.refused.append(BadRow(f"out-{candidate.row.seq}", full))
        _strike(tx, session, Act.KEPT, full, copied)
        return
    copied.kept.add(1, 0 if message is None else len(message.canonical))
    if message is not None:
        try:
            if message.kind != MessageOutKind.SYSTEM and not copied.kept.may_wait(tx, session.id):
                reason = f"{copied.kept.quota.waiting:,} messages of this conversation wait to be sent already"
                _strike(tx, session, Act.WAITING, reason, copied)
                raise RowRefused(reason)
            if message.kind != MessageOutKind.SYSTEM:
                enqueue(tx, session, message, candidate.files, copied.rows)
            elif (asked := request_of(message)) is not None:
                tx.add(AgentAsks(session.id, asked))
            else:
                control_results.take(tx, session, message)
        except RowRefused as error:
            refusal = str(error)
    if refusal is not None:
        copied.refused.append(BadRow(f"out-{candidate.row.seq}", refusal))
        give_back(tx, session, candidate.row, refusal)


def _strike(tx: Transaction, session: sessions.Session, act: Act, why: str, copied: Copied) -> None:
    """A limit holds something back: it is counted, and told once in an hour where the session is at home."""
    if act in copied.struck:
        return
    copied.struck.add(act)
    address = ingest.last_address(tx, session.id)
    if rate_limits.take(tx, act, session.id).is_first and address is not None:
        text = f"Some of what the agent says is left out: {why}."
        deliveries.add_notice(tx, session.id, address, None, text)


def _store_turn(tx: Transaction, session: sessions.Session, turn: Turn, acks: Sequence[Ack], copied: Copied) -> None:
    problem = turn_problem(turn)
    if problem is not None:
        copied.refused.append(BadRow("a turn", problem))
        return
    if not (is_known := turns.is_known(tx, session.id, turn.id)):
        if (full := copied.kept.refusal()) is not None:
            if Act.KEPT not in copied.struck:
                copied.refused.append(BadRow("a turn", full))
            _strike(tx, session, Act.KEPT, full, copied)
            return
        copied.kept.add(_ROWS_OF_TURN, 0)
    if turn_taken.store(tx, session, turn, acks, is_known=is_known, rows=copied.rows):
        copied.turns.append(turn)
    control_results.compress_when_full(tx, session, turn, acks)
