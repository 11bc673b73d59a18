"""Talking from the terminal: send a message, then everything that answers it, until it has its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from host.central import (
    agent_groups,
    deliveries,
    ingest,
    mailbox,
    session_lookup,
    sessions,
    turns,
    usage,
)
from host.central.database import Queryable
from host.central.mailbox import Letter
from host.channels.cli import CHANNEL_TYPE, PLATFORM_ID
from host.operations import partner
from host.operations.sessions import has_printed
from host.routing import commands
from host.routing.acceptance import ARCHIVED
from host.routing.event import Event
from host.services import Services
from shared_schema.errors import InvalidValue, NotFound
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import PROVIDER_BROKE, Address, FailureReason, MessageInStatus, decode

_LOOK_SECONDS = 1.0


async def unread(services: Services) -> list[dict[str, Any]]:
    """Replies that came when no terminal was open, oldest first; they count as read from now on."""
    return [
        _message(letter) | {"created_at": letter.created_at} for letter in await services.terminal.collect(PLATFORM_ID)
    ]


async def chat(
    services: Services,
    *,
    text: str,
    agent_group: str | None = None,
    session: str | None = None,
    timeout: float = 120.0,
) -> AsyncIterator[dict[str, Any]]:
    """Send a message from the terminal, and hand on its answers as they come.

    Objects: `accepted` (message_id, session_id, command: whether the host itself answers), `message` (text, files,
    from_host) any number of times, `done` (status completed, failed, cancelled or timeout, error, and more: where more
    of a failure stands). Raises what the router raises.
    """
    if not text.strip():
        raise InvalidValue("the message is empty")
    position = await services.central.read(mailbox.newest)
    session_id = None
    if session is not None:
        session_id = (await services.central.read(session_lookup.find, session)).id
    else:
        agent_group = await services.central.read(_taker, agent_group, text)
    receipt = await services.terminal.send(
        Event(
            address=Address(CHANNEL_TYPE, PLATFORM_ID),
            platform_message_id=new_id(Prefix.MESSAGE),
            text=text,
            sender_id="terminal",
            is_mention=True,
            agent_group=agent_group,
            session_id=session_id,
        )
    )
    if not receipt.accepted:
        await services.central.read(partner.require_any)
        raise NotFound(f"no agent took the message: {receipt.dropped}", hint="`dumbwaiter wirings` shows which would")
    accepted = receipt.accepted[0]
    yield {
        "type": "accepted",
        "message_id": accepted.message_id,
        "session_id": accepted.session_id,
        "command": commands.parse(text) is not None,
    }
    async for item in _answers(services, accepted.message_id, accepted.session_id, timeout, position):
        yield item


def _taker(connection: Queryable, agent_group: str | None, text: str) -> str | None:
    if agent_group is not None:
        return partner.named(connection, agent_group).name
    taker = partner.of_text(connection, text)
    if taker is None and commands.parse(text) is None:  # a command the host itself may answer
        partner.require_any(connection)
    return None if taker is None else taker.name


async def _answers(
    services: Services, message_id: str, session_id: str, timeout: float, position: int
) -> AsyncIterator[dict[str, Any]]:
    deadline = services.clock.monotonic() + timeout
    while True:
        change = services.terminal.change()
        row, is_out = await services.central.read(_state, message_id, session_id)
        for letter in await services.terminal.behind(PLATFORM_ID, position, message_id):
            position = letter.position
            yield _message(letter)
        if row is None or (row.status != MessageInStatus.PENDING and is_out):
            done = await services.central.read(_done, session_id=session_id, row=row)
            if done["more"] == "logs" and row is not None and not await _is_in_log(services, session_id, row):
                done["more"] = None
            yield done
            return
        left = deadline - services.clock.monotonic()
        if left <= 0:
            yield {"type": "done", "status": "timeout", "error": f"no answer within {timeout:g} s; it may still come"}
            return
        try:
            async with asyncio.timeout(min(left, _LOOK_SECONDS)):
                await change.wait()
        except TimeoutError:
            continue


def _state(connection: Queryable, message_id: str, session_id: str) -> tuple[ingest.AcceptedMessage | None, bool]:
    return ingest.get(connection, message_id), deliveries.is_answer_out(connection, session_id, message_id)


async def _is_in_log(services: Services, session_id: str, row: ingest.AcceptedMessage) -> bool:
    """Whether an agent printed anything since the message came: one that never started did not."""
    session = await services.central.read(sessions.lookup, session_id)
    return session is not None and await has_printed(services, session, row.accepted_at)


def _done(connection: Queryable, *, session_id: str, row: ingest.AcceptedMessage | None) -> dict[str, Any]:
    """The end of an exchange. `more` says where more of a failure stands: `logs`, `show`, or nowhere; `budget` is that
    the one of `agent_group` is used up, `archived` that no agent was asked.

    An answer that the host could not send is a failure as well, even though its turn went well.
    """
    if row is None:
        return {"type": "done", "status": str(MessageInStatus.CANCELLED), "error": None, "more": None}
    unsent = deliveries.unsent_because(connection, session_id, row.message_id)
    if row.status == MessageInStatus.COMPLETED and unsent is not None:
        what = f"an answer could not be sent: {unsent}"
        return {"type": "done", "status": str(MessageInStatus.FAILED), "error": what, "more": None}
    more = None
    if row.status == MessageInStatus.FAILED and usage.is_refusal(row.error or ""):
        group = agent_groups.by_id(connection, sessions.get(connection, session_id).agent_group_id)
        name = None if group is None else group.name
        return {"type": "done", "status": str(row.status), "error": row.error, "more": "budget", "agent_group": name}
    if row.status == MessageInStatus.FAILED and row.error == ARCHIVED:
        more = "archived"
    elif row.status == MessageInStatus.FAILED:
        reason, has_detail = turns.end_of(connection, session_id, row.turn_id)
        # The agent's own end, and what its provider broke with, stand in its log; what a service said does in its turn.
        is_in_log = reason in (None, FailureReason.AGENT_DIED) or (row.error or "").startswith(PROVIDER_BROKE)
        more = "show" if has_detail else "logs" if is_in_log else None
    return {"type": "done", "status": str(row.status), "error": row.error, "more": more}


def _message(letter: Letter) -> dict[str, Any]:
    content = decode(letter.content)
    return {
        "type": "message",
        "text": content.get("text", ""),
        "files": content.get("files", []),
        "from_host": content.get("from_host", False),
    }
