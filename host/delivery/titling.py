"""Asking agents for titles, at a moment when no message waits: their conversation has rested for a little while.

Nothing of it is kept: what is lost with the host is asked for after the next exchange, and the first words serve until
then. No agent is started only for a title.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from host.central.database import Central
from host.delivery.control_results import ask_title
from shared_schema.errors import DumbwaiterError

log = logging.getLogger(__name__)


class Titling:
    """Asks after `seconds` of rest. `is_running` says whether a session has an agent."""

    def __init__(
        self,
        central: Central,
        seconds: float,
        *,
        is_running: Callable[[str], bool],
    ) -> None:
        self._central = central
        self._seconds = seconds
        self._is_running = is_running
        self._resting: dict[str, asyncio.Task[None]] = {}

    def wanted(self, session_id: str) -> None:
        """Something was answered in a session that wants a title: it rests from now on."""
        if (earlier := self._resting.get(session_id)) is not None:
            earlier.cancel()
        resting = asyncio.create_task(self._ask(session_id), name=f"title {session_id}")
        self._resting[session_id] = resting
        resting.add_done_callback(lambda _: self._forget(session_id, resting))

    async def close(self) -> None:
        """Ask for nothing more."""
        resting = list(self._resting.values())
        for task in resting:
            task.cancel()
        await asyncio.gather(*resting, return_exceptions=True)

    async def _ask(self, session_id: str) -> None:
        await asyncio.sleep(self._seconds)
        if not self._is_running(session_id):
            return
        try:
            await self._central.write(ask_title, session_id)
        except DumbwaiterError as error:
            log.warning("a title could not be asked for", extra={"session_id": session_id, "error": str(error)})

    def _forget(self, session_id: str, resting: asyncio.Task[None]) -> None:
        if self._resting.get(session_id) is resting:
            del self._resting[session_id]
