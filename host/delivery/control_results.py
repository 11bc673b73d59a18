"""What comes of control tasks: the host takes an agent's answer and never delivers it; a failure is told where it
matters. And who is asked for a title, and when.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from host.central import agent_groups, control_tasks, deliveries, exchanges, ingest, rate_limits, sessions, titles
from host.central.database import Effect, Queryable, Transaction
from host.central.rate_limits import Act
from host.delivery.check import CheckedMessage, RowRefused
from host.sessions import transitions
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, InvalidValue
from shared_schema.providers import SUMMARIZERS
from shared_schema.rows import Ack, AckStatus, ControlTask, MessageInKind, MessageInStatus, Turn, TurnStatus

_REPLACED = (None, titles.TitleSource.FIRST_WORDS)  # the titles in whose place an agent's comes

_MAX_SUMMARY = 20_000
"""Characters. A longer one is no summary, and it is a part of every later turn."""

_FULL = 0.85
_USUAL_WINDOW = 64_000
_MOST_SUMMARIES = 24
_NEARLY_FULL = "This conversation has nearly filled what its model can keep in mind, and is being summed up."
_TOO_OFTEN_FULL = (
    "This conversation fills what its model can keep in mind again and again, and is not summed up any more within "
    "this hour. /new begins another one."
)
_SUMMED_UP = "The conversation was summed up, and goes on from the summary. What was said before can still be searched."

# Control characters but tab and newline, and what hides or reorders text.
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


@dataclass(frozen=True, slots=True)
class WantsTitle(Effect):
    """The agent of a session is to be asked for a title when it rests."""

    session_id: str


def take(tx: Transaction, session: sessions.Session, message: CheckedMessage) -> None:
    """Take an agent's answer to a control task.

    Raises `RowRefused` for what answers no control task of the present conversation, or has nothing in it.
    """
    row = None if message.in_reply_to is None else ingest.get(tx, message.in_reply_to)
    task = None if row is None or row.session_id != session.id else control_tasks.control_task_of(row)
    if row is None or task is None:
        raise RowRefused("it answers nothing that the host has asked for")
    if row.status != MessageInStatus.PENDING:
        raise RowRefused("what the host has asked for was answered or withdrawn before")
    if session.status != "active" or not session.generation == message.generation == row.generation:
        raise RowRefused("the conversation was reset or ended before this was said")
    try:
        if task == ControlTask.SUMMARIZE:
            _take_summary(tx, session, row.message_id, message.text)
        else:
            titles.set_automatic(tx, session, message.text)
    except (InvalidValue, Conflict) as error:
        raise RowRefused(error.what) from error


def ended(tx: Transaction, session_id: str, row: ingest.AcceptedMessage, sentence: str | None) -> None:
    """A control task got its outcome without the host having gone on from its answer.

    `sentence` says why it failed. A title that does not come needs no notice: the first words stand.
    """
    address = ingest.last_address(tx, session_id)
    if control_tasks.control_task_of(row) != ControlTask.SUMMARIZE or address is None:
        return
    text = f"The conversation could not be compressed: {sentence or 'the agent wrote no summary'}"
    deliveries.add_notice(tx, session_id, address, None, text)


def wants_title(tx: Transaction, session: sessions.Session) -> bool:
    """See to the title of a session in which something was answered: the first words serve at once.

    Returns whether its agent is to be asked for a better one, when no message waits.
    """
    source, is_asked = titles.progress(tx, session)
    if source is None:
        titles.set_first_words(tx, session, control_tasks.first_text(tx, session.id))
    return source in _REPLACED and not is_asked and _can_summarize(tx, session)


def compress_when_full(tx: Transaction, session: sessions.Session, turn: Turn, acks: Sequence[Ack]) -> None:
    """Ask for a summary when a conversation has nearly filled its model's window, and tell its chat.

    Once in each generation: what could not be summed up is not tried again with every message. And a summary begins a
    generation: so only where a person was answered since, and so often in an hour, however large a conversation says
    it is. `acks` are of the messages of the turn.
    """
    if turn.status != TurnStatus.COMPLETED or not turn.context_window or session.status != "active":
        return
    if turn.generation != session.generation or (turn.context_tokens or 0) < _FULL * turn.context_window:
        return
    address = ingest.last_address(tx, session.id)
    if (
        address is None
        or not _can_summarize(tx, session)
        or control_tasks.was_asked(tx, session, ControlTask.SUMMARIZE)
        or not (exchanges.has_one(tx, session.id) or _answers_a_person(tx, session, acks))
    ):
        return
    verdict = rate_limits.take(tx, Act.COMPRESSION, session.route_id, most=_summaries_per_hour(turn.context_window))
    if not verdict.allowed:
        if verdict.is_first:
            deliveries.add_notice(tx, session.id, address, None, _TOO_OFTEN_FULL)
        return
    control_tasks.ask(tx, session, ControlTask.SUMMARIZE)
    deliveries.add_notice(tx, session.id, address, None, _NEARLY_FULL)


def _summaries_per_hour(context_window: int) -> int:
    """A small window is full after a few exchanges, and its summary costs little. An agent that says its window is
    smaller than it is gets no more than the most."""
    usual = rate_limits.PER_HOUR[Act.COMPRESSION]
    return max(usual, min(_MOST_SUMMARIES, usual * _USUAL_WINDOW // context_window))


def _answers_a_person(connection: Queryable, session: sessions.Session, acks: Sequence[Ack]) -> bool:
    """Whether a turn answers something that a person wrote in this session and that had no outcome."""
    for ack in acks:
        row = ingest.get(connection, ack.message_id) if ack.status == AckStatus.COMPLETED else None
        if row is not None and row.session_id == session.id and row.kind == MessageInKind.CHAT and row.trigger:
            return True
    return False


def ask_title(tx: Transaction, session_id: str) -> bool:
    """Ask the agent of a session for a title, once; whether it was asked.

    It is not while a message waits for it, nor where a person has set a title.
    """
    session = sessions.lookup(tx, session_id)
    if session is None or session.status != "active" or control_tasks.talk_waits(tx, session_id):
        return False
    if titles.source_of(tx, session) not in _REPLACED or not _can_summarize(tx, session):
        return False
    if not titles.mark_asked(tx, session_id):
        return False
    if not rate_limits.take(tx, Act.TITLE, session.route_id).allowed:
        return False
    control_tasks.ask(tx, session, ControlTask.TITLE)
    return True


def _can_summarize(connection: Queryable, session: sessions.Session) -> bool:
    group = agent_groups.by_id(connection, session.agent_group_id)
    return group is not None and group.provider in SUMMARIZERS


def _take_summary(tx: Transaction, session: sessions.Session, errand_id: str, text: str) -> None:
    """Go on from a summary, and say so."""
    summary = _HIDDEN.sub("", text.replace("\r\n", "\n")).strip()[:_MAX_SUMMARY]
    if not summary:
        raise InvalidValue("there is nothing in the summary")
    # What is open in the session is handed on or cancelled: the control task is not.
    ingest.finish(tx, session.id, errand_id, MessageInStatus.COMPLETED)
    child = transitions.compress(tx, session, summary).after
    if (address := ingest.last_address(tx, session.id)) is not None:
        deliveries.add_notice(tx, child.id, address, None, _SUMMED_UP)
