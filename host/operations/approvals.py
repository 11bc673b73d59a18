"""What a person can do about approvals; and what follows from a decision, wherever it was made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from host.access import approvals as rules
from host.access import cards, codes
from host.access.standing import AT_TERMINAL
from host.background import in_background, repeat
from host.central import approvals as table
from host.central.approvals import Approval, ApprovalState
from host.central.database import Queryable
from host.operations.push import push_to_agent_group
from host.routing.waiting import from_json
from host.services import Services
from host.sessions.attachments import AttachmentRefused
from shared_schema.clock import from_text, to_text
from shared_schema.errors import InvalidValue, NotFound

log = logging.getLogger(__name__)

COMMAND_LINE = "command line"
_LONGEST_WAIT = 30.0
"""Seconds until the wall clock is asked again: it may be set meanwhile."""
_RETRY_SECONDS = 2.0


async def list_all(services: Services, *, state: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """Approvals, the newest first; without a state those that wait for a decision. `all` are all that are kept."""
    wanted = None if state == "all" else _state(state or ApprovalState.PENDING)
    return await services.central.read(lambda c: [_shown(c, each) for each in table.newest(c, wanted, limit)])


async def show(services: Services, *, code: str) -> dict[str, Any]:
    """One approval, what it is `about`, its `choices` with their `labels`, and the text of its card (`card`).

    Raises `NotFound`.
    """
    return await services.central.read(lambda c: _shown(c, _by_code(c, code), whole=True))


async def approve(services: Services, *, code: str, choice: str | None = None) -> dict[str, Any]:
    """Say yes, as the owner at the terminal; `choice` where there are several. Raises `NotFound`, `Conflict`."""
    return await _decide(services, code, choice)


async def deny(services: Services, *, code: str) -> dict[str, Any]:
    """Say no. Raises `NotFound`, `Conflict`."""
    return await _decide(services, code, cards.NO)


async def _decide(services: Services, code: str, answer: str | None) -> dict[str, Any]:
    done = await services.central.write(rules.decide, code, AT_TERMINAL, COMMAND_LINE, answer)
    return {"code": done.approval.code, "state": done.approval.state, "outcome": done.sentence}


@asynccontextmanager
async def following_decisions(services: Services) -> AsyncIterator[None]:
    """Do what follows from decisions, and let approvals expire, until the block ends."""
    work = repeat(
        _ApprovalWorker(services).work,
        log=log,
        failure="what follows from an approval waits",
        retry_seconds=_RETRY_SECONDS,
        news=services.dispatcher.decided,
    )
    async with in_background(work, name="approvals"):
        yield


class _ApprovalWorker:
    """Hands in what waited for a yes, tells agents of changed wirings, and closes what is not decided in time.

    What is to be handed in stands in the ledger until it is: a host that dies in between does it at its next start, and
    the router knows what it has had.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def work(self) -> float | None:
        """Do what is due; seconds until the next approval may expire, None: there is none."""
        await self._expire()
        await self._replay()
        await self._tell_changed()
        return await self._until_next()

    async def _tell_changed(self) -> None:
        services = self._services
        changed = services.dispatcher.take_changed_agent_groups()
        try:
            while changed:
                await push_to_agent_group(services, changed[0])
                changed.pop(0)
        finally:
            services.dispatcher.take_back_changed(changed)

    async def _expire(self) -> None:
        services, now = self._services, to_text(self._services.clock.now())
        if (await services.central.read(table.next_expiry) or "~") <= now:
            while await services.central.write(rules.expire_due):
                pass

    async def _replay(self) -> None:
        """Hand in what waited: it is accepted as if it had come now."""
        services = self._services
        for approval in await services.central.read(table.to_replay):
            for kept in approval.events:
                try:
                    event = await asyncio.to_thread(from_json, kept, services.settings.layout.spool)
                    await services.router.ingest(event)
                except (InvalidValue, NotFound, AttachmentRefused) as error:  # it can never be taken
                    ids = {"approval": approval.id, "error": str(error)}
                    log.warning("what waited for an approval cannot be taken", extra=ids)
            await services.central.write(table.replayed, approval_id=approval.id)

    async def _until_next(self) -> float | None:
        services = self._services
        at = await services.central.read(table.next_expiry)
        if at is None:
            return None
        return min(_LONGEST_WAIT, max(0.05, (from_text(at) - services.clock.now()).total_seconds()))


def _state(state: str) -> ApprovalState:
    if state not in set(ApprovalState):
        raise InvalidValue(
            f"'{state}' is not a state of an approval", hint=f"use one of {', '.join(ApprovalState)}, or all"
        )
    return ApprovalState(state)


def _by_code(connection: Queryable, code: str) -> Approval:
    found = table.by_code(connection, codes.normalised(code))
    if found is None:
        raise NotFound(f"there is no approval {code[:20]}", hint="`dumbwaiter approval list` shows those that wait")
    return found


def _shown(connection: Queryable, approval: Approval, *, whole: bool = False) -> dict[str, Any]:
    kind = rules.KINDS.get(approval.kind)
    shown = {
        "code": approval.code,
        "id": approval.id,
        "kind": approval.kind,
        "subject": approval.subject,
        "summary": rules.in_words(approval),
        "state": approval.state,
        "arguments": {name: value for name, value in approval.about.items() if kind is None or name not in kind.hidden},
        "repeats": approval.repeats,
        "created_at": approval.created_at,
        "expires_at": approval.expires_at,
        "decided_at": approval.decided_at,
        "decided_by": approval.decided_by,
        "choice": approval.choice,
        "outcome": approval.outcome,
    }
    if whole and kind is not None:
        choices = kind.choices(connection, approval.about)
        shown["choices"] = [choice.value for choice in choices]
        shown["labels"] = [choice.label for choice in choices]
        shown["about"] = rules.card_about(approval)
        shown["card"] = rules.card_text(connection, approval)
    return shown
