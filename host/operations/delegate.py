"""Tasks that agents delegate: begun when they ask, looked after until their result is handed back."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from host.agents import delegating
from host.agents.handover import tell_of_limit
from host.background import boundary, in_background, repeat
from host.central import delegations, sessions
from host.central.delegations import Delegation, DelegationState
from host.central.rate_limits import Act
from host.central.sessions import Session
from host.operations.session_stop import interrupt
from host.services import Services
from host.sessions.attachments import Attachment, AttachmentRefused, FileLimits, spool
from shared_schema.clock import to_text
from shared_schema.errors import InvalidValue
from shared_schema.ids import Prefix, new_id

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
"""How often tasks are looked at while there are any."""
_STOPS = (DelegationState.STOPPED, DelegationState.LATE, DelegationState.SPENT)


async def begin(services: Services, session: Session, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """An agent delegates a task: `{said}`. Raises `Conflict`, which the agent is told."""
    try:
        name, task = await services.central.write(delegating.begin, session, arguments)
    except delegating.DelegationLimit as error:
        await services.central.write(tell_of_limit, session, Act.DELEGATION_LIMITS, error.what)
        raise
    services.delegated.set()
    until = task.deadline[11:16]
    limits = f"until {until} UTC, with {task.budget_tokens:,} tokens at most"
    return {"said": f"{name} works at it {limits}. Its result comes to you as a message."}


@asynccontextmanager
async def following_delegations(services: Services) -> AsyncIterator[None]:
    """Look after delegated tasks until the block ends."""

    async def look() -> float | None:
        tasks = await services.central.read(delegations.all_open)
        for task in tasks:  # a node that is away, for instance, holds up no task but its own
            with boundary(log, "a delegated task cannot be looked after", delegation=task.id):
                await _look_after(services, task)
        return _LOOK_SECONDS if tasks else None

    failure = "delegated tasks cannot be looked after"
    work = repeat(look, log=log, failure=failure, retry_seconds=_LOOK_SECONDS, news=services.delegated)
    async with in_background(work, name="delegated tasks"):
        yield


async def _look_after(services: Services, task: Delegation) -> None:
    now = to_text(services.clock.now())
    state = await services.central.read(delegating.due, task, now)
    if state is None:
        return
    session = await services.central.read(sessions.lookup, task.session_id)
    if state in _STOPS and session is not None:
        await interrupt(services, session)  # first: what it still says belongs to the result
    said, names = await services.central.read(delegating.result_of, task)
    folder, files = await asyncio.to_thread(_kept, services, session, names)
    handed = await services.central.write(delegating.hand_back, task, state, said, spool=folder, files=files)
    if not handed and folder is not None:
        await asyncio.to_thread(shutil.rmtree, services.settings.layout.spool / folder, ignore_errors=True)


def _kept(services: Services, session: Session | None, names: list[str]) -> tuple[str | None, list[str]]:
    """The files of a result in a folder of the spool; none where they cannot be taken. Blocks."""
    settings = services.settings
    if session is None or not names:
        return None, []
    home = settings.layout.session(session.agent_group_id, session.id).folder
    limits = FileLimits(settings.max_files, settings.max_file_bytes, settings.out_bytes)
    folder = new_id(Prefix.MESSAGE)
    files = [Attachment(name.rpartition("/")[2], home / name) for name in names[: settings.max_files]]
    try:
        return folder, spool(files, settings.layout.spool / folder, limits)
    except (AttachmentRefused, InvalidValue) as error:
        log.warning("files of a delegated task are left out", extra={"session": session.id, "error": str(error)})
        return None, []
