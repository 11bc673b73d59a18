"""The questions of agents that wait for an answer, and answering one of one's own from anywhere."""

from __future__ import annotations

from typing import Any

from host.access.standing import TERMINAL
from host.central import questions as table
from host.central import users
from host.central.database import Queryable
from host.central.questions import OpenQuestion
from host.channels.browser import CHANNEL_TYPE as BROWSER
from host.operations.conversations import OWNER
from host.routing.event import Event
from host.services import Services
from shared_schema.clock import to_text
from shared_schema.errors import Conflict, InvalidValue, NotFound


async def list_all(services: Services, *, user: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
    """The questions that wait, the one that ends first before the others; `is_yours` of those that `user` was asked.

    Each has session_id, agent_group, message_id, text, options, asked (`<channel>:<handle>`), messaging_group,
    thread_id, expires_at. Without a user it is the owner at the terminal.
    """
    now = to_text(services.clock.now())

    def load(connection: Queryable) -> list[dict[str, Any]]:
        own = _users_of(connection, user or TERMINAL)
        return [_shown(each, own) for each in table.all_open(connection, now, limit)]

    return await services.central.read(load)


async def answer(
    services: Services, *, session: str, text: str, message: str | None = None, user: str | None = None
) -> dict[str, Any]:
    """Answer a question that `user` was asked, as if it were said where the question stands; the same one is once.

    `message` may be left out where the session has asked this person one question. Raises `NotFound` where none waits
    for this person, `InvalidValue`, `Conflict`.
    """
    if not text.strip():
        raise InvalidValue("the answer is empty", hint="write what you want to say")
    now = to_text(services.clock.now())

    def load(connection: Queryable) -> list[OpenQuestion]:
        own = _users_of(connection, user or TERMINAL)
        return [each for each in table.all_open(connection, now, 1000) if each.asked in own]

    found = [each for each in await services.central.read(load) if each.session_id.startswith(session)]
    found = [each for each in found if message in (None, each.message_out_id)]
    if not found:
        raise NotFound(
            "no question of that session waits for your answer", hint="`dumbwaiter question list` shows those that do"
        )
    if len(found) > 1:
        raise Conflict("several questions wait there", hint="`--message ID` says which one is answered")
    question = found[0]
    receipt = await services.router.ingest(
        Event(
            address=question.address,
            platform_message_id=f"answer-{question.message_out_id}",
            text=text,
            sender_id=question.sender_id,
            is_mention=True,
            session_id=question.session_id,
            reply_to=question.message_out_id,
            by_owner=(user or TERMINAL) == TERMINAL,
            is_literal=True,
        )
    )
    if not receipt.accepted:
        raise Conflict(f"the answer was not taken: {receipt.dropped}")
    accepted = receipt.accepted[0]
    return {
        "session_id": accepted.session_id,
        "message_id": accepted.message_id,
        "answered": question.message_out_id,
        "duplicate": accepted.duplicate,
    }


def _users_of(connection: Queryable, user: str) -> frozenset[str]:
    """All that a person is called, on any platform."""
    if user == TERMINAL:
        return frozenset({TERMINAL, f"{BROWSER}:{OWNER}"})
    found = users.find(connection, user)
    return frozenset({user} if found is None else {each.id for each in users.of_person(connection, found.person_id)})


def _shown(question: OpenQuestion, own: frozenset[str]) -> dict[str, Any]:
    return {
        "session_id": question.session_id,
        "agent_group": question.agent_group,
        "message_id": question.message_out_id,
        "text": question.text,
        "options": question.options,
        "asked": question.asked,
        "messaging_group": f"{question.address.channel_type}:{question.address.platform_id}",
        "thread_id": question.address.thread_id,
        "expires_at": question.expires_at,
        "is_yours": question.asked in own,
    }
