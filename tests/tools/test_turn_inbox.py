"""What a running turn hears of people: what they write, and what they change of the messages that it answers."""

from __future__ import annotations

import pytest

from container_agent.tools.turn_inbox import TurnInbox
from shared_schema.errors import FileTrouble
from shared_schema.rows import MessageIn, encode
from tests.agent.session import BareSession
from tests.tools.bench import Turn


def changed(session: BareSession, message_id: str, text: str, change: str | None = "edited", **columns: object) -> str:
    """A person changes a message: its id, of the row that says so."""
    content: dict[str, object] = {"text": text, "reply_to": {"message": message_id}}
    return session.say(
        "", trigger=0, content=encode(content if change is None else content | {"change": change}), **columns
    )


@pytest.fixture
def turn(session: BareSession) -> Turn:
    return Turn(session, "teh question")


def heard(turn: Turn) -> list[str]:
    """What the turn takes now, in order."""
    here = turn.request.messages[-1].address
    about = [turn.message_id, *(message.id for message in turn.taken)]
    return [row.text for row in turn.turn_inbox.follow_ups(here, after=turn.request.messages[-1].seq, about=about)]


def test_a_change_of_a_message_that_the_turn_answers_is_taken_into_it_once(session: BareSession, turn: Turn) -> None:
    changed(session, turn.message_id, "edited: the question")
    session.say("and another one")
    changed(session, turn.message_id, "deleted this message", "deleted")
    assert heard(turn) == ["edited: the question", "and another one", "deleted this message"]
    assert heard(turn) == []


def test_a_change_of_what_was_taken_meanwhile_is_taken_as_well(session: BareSession, turn: Turn) -> None:
    second = session.say("and wehn")
    assert heard(turn) == ["and wehn"]
    changed(session, second, "edited: and when")
    assert heard(turn) == ["edited: and when"]


def test_what_was_taken_before_the_file_could_not_be_written_is_told(session: BareSession, turn: Turn) -> None:
    """It is acknowledged with the turn, and no other turn takes it."""
    room = 2

    def take(message: MessageIn) -> None:
        if len(turn.taken) == room:
            raise FileTrouble("the disk is full")
        turn.taken.append(message)

    turn.turn_inbox = TurnInbox(
        session.layout.inbound,
        session.layout.outbound,
        generation=1,
        acknowledged=lambda ids: {turn.message_id, *(message.id for message in turn.taken)} & set(ids),
        take=take,
    )
    for said in ("one", "two", "three"):
        session.say(said)
    assert heard(turn) == ["one", "two"]
    with pytest.raises(FileTrouble):
        heard(turn)
    room = 3
    assert heard(turn) == ["three"]


def test_changes_of_other_messages_and_other_context_are_left_to_the_next_turn(session: BareSession) -> None:
    before = session.say("of an earlier turn")
    turn = Turn(session, "the question")
    changed(session, before, "edited: it was answered")
    changed(session, turn.message_id, "reacted with 👍", None)
    changed(session, turn.message_id, "edited: in another generation", generation=2)
    changed(session, turn.message_id, "edited: tried before", tries=1)
    assert heard(turn) == []
