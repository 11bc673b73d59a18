"""What an agent has written and the ledger has not taken over yet, for those who follow its session.

Only for showing: what counts is in the ledger a moment later, or is refused there.
"""

from __future__ import annotations

import asyncio

from host.backoff import Backoff
from host.services import Services
from host.sessions import outbox
from host.sessions.outbox import Signature
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileTrouble
from shared_schema.rows import MessageOut

_BUSY = Backoff(0.005, 0.5)
"""Seconds until a file that could not be read is looked at again: no other hint tells of what is in it."""


@dataclass(slots=True)
class WrittenAhead:
    """The last look at the file of a session's agent: its draft, and the first message behind the ledger's cursor."""

    services: Services
    session_id: str
    draft: str = ""
    message: MessageOut | None = None
    again_in: float | None = None
    """Seconds until another look is due; None: it could be read."""
    _signature: Signature | None = None
    _failures: int = 0

    async def look(self, *, out_cursor: int | None = None, run: int | None = None) -> None:
        """Look again: for the draft, and with `out_cursor` for a message.

        Nothing is read where the file is as it was; what was seen last stays while it is busy.
        """
        agent = self.services.supervisor.agents.get(self.session_id)
        if agent is None:
            self.draft, self.message, self.again_in = "", None, None
            return
        try:
            self._signature, found = await asyncio.to_thread(
                outbox.ahead, agent.folder, self._signature, out_cursor=out_cursor, run=run
            )
        except FileTrouble:  # busy or gone at this moment
            self._failures += 1
            self.again_in = _BUSY.after(self._failures)
            return
        self._failures, self.again_in = 0, None
        if found is not None:
            self.draft, self.message = found.draft, found.message
        if self.message is not None and self.message.seq <= (out_cursor or 0):  # the ledger has it by now
            self.message = None
