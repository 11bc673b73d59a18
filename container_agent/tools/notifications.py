"""What MCP servers notify of, told to the host: it may start a run, where a person has said so.

The newest few stand in the session's file. A server that says much costs a write a second, and what is pushed out
before is lost: a trigger takes many as one anyway.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable

from shared_schema import mcp_notices
from shared_schema.errors import FileTrouble
from shared_schema.mcp_notices import LONGEST_TEXT, MOST_KEPT, Notification

_SECONDS = 1.0
_OF_CALLS = ("notifications/progress", "notifications/cancelled")
"""They are about a call that is under way, and nothing that has happened."""


class Notifications:
    """The newest notifications of an agent's servers. `note` writes them; it may raise `FileTrouble`."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._newest: deque[Notification] = deque(maxlen=MOST_KEPT)
        self._timer: asyncio.TimerHandle | None = None

    def take(self, server: str, method: str, parameters: object) -> None:
        """A server notifies of something; `parameters` can be written as JSON."""
        if method in _OF_CALLS:
            return
        text = json.dumps(parameters, ensure_ascii=False, default=str)[:LONGEST_TEXT]
        self._newest.append(Notification(secrets.token_hex(8), server, method, text))
        self._later()

    def close(self) -> None:
        """Write what is not written yet, if it can be."""
        if self._timer is not None:
            self._timer.cancel()
            self._write()
            if self._timer is not None:
                self._timer.cancel()

    def _later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SECONDS, self._write)

    def _write(self) -> None:
        self._timer = None
        try:
            self._note(mcp_notices.stored(self._newest))
        except FileTrouble:  # the host reads or writes at this moment
            self._later()
