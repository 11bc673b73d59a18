"""How much history takes of one session in an hour.

What an agent writes becomes several times as large here, with two indexes of words. More than the quota is read when
the hour is over: nothing is lost by that, and a search says meanwhile that it is not complete.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from host.history.entry import Entry

_HOUR = 3600.0
_ROW_BYTES = 300
"""What an entry costs beside its texts."""


class Intake:
    """The quota of each session. Callable from any thread; times are monotonic, in seconds."""

    def __init__(self, rows: int, size: int) -> None:
        self._most_rows = rows
        self._most_bytes = size
        self._lock = threading.Lock()
        self._taken: dict[str, tuple[float, int, int]] = {}  # since when, rows, bytes; in the order of `since`

    def has_room(self, session_id: str, now: float) -> bool:
        """Whether more of a session is read now."""
        with self._lock:
            self._forget(now)
            _, rows, size = self._taken.get(session_id, (now, 0, 0))
            return rows < self._most_rows and size < self._most_bytes

    def took(self, session_id: str, entries: Sequence[Entry], now: float) -> None:
        """Count what was read."""
        if not entries:
            return
        size = sum(_ROW_BYTES + _size(entry) for entry in entries)
        with self._lock:
            self._forget(now)
            since, rows, before = self._taken.get(session_id, (now, 0, 0))
            self._taken[session_id] = (since, rows + len(entries), before + size)

    def full(self, now: float) -> list[str]:
        """The sessions of which nothing more is read in this hour."""
        with self._lock:
            known = list(self._taken)
        return [session_id for session_id in known if not self.has_room(session_id, now)]

    def _forget(self, now: float) -> None:
        """Hours that are over; the lock is held."""
        for session_id, (since, _, _) in list(self._taken.items()):
            if now - since < _HOUR:
                return
            del self._taken[session_id]


def _size(entry: Entry) -> int:
    texts = (entry.text, entry.content, entry.spoken, entry.called, entry.tool_calls, entry.reasoning)
    return sum(len(text) for text in texts if text is not None)
