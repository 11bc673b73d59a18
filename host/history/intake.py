"""How much history takes of one session: in an hour, and in all.

What an agent writes becomes several times as large here, with two indexes of words. What is more than the quota of an
hour is read when that is over: nothing is lost by that, and a search says meanwhile that it is not complete. What is
more than the quota in all is never read; it stands in the session's own files.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from host.history.entry import Entry

_HOUR = 3600.0
_ROW_BYTES = 300
"""What an entry costs beside its texts."""


class HourlyIntake:
    """The quotas of each session: `rows` and `size` in an hour, `most_rows` and `most_size` in all.

    Callable from any thread; times are monotonic, in seconds.
    """

    def __init__(self, rows: int, size: int, most_rows: int = 10**12, most_size: int = 10**15) -> None:
        self._in_all = (most_rows, most_size)
        self._filled: set[str] = set()
        self._most_rows = rows
        self._most_bytes = size
        self._lock = threading.Lock()
        self._taken: dict[str, tuple[float, int, int]] = {}  # since when, rows, bytes; in the order of `since`

    def has_room(self, session_id: str, now: float) -> bool:
        """Whether more of a session is read now."""
        with self._lock:
            self._forget(now)
            _, rows, size = self._taken.get(session_id, (now, 0, 0))
            return session_id not in self._filled and rows < self._most_rows and size < self._most_bytes

    def is_filled(self, session_id: str, taken: tuple[int, int]) -> bool:
        """Whether a session of which so much was taken has all that is kept of one. Then it has no room any more."""
        is_filled = taken[0] >= self._in_all[0] or taken[1] >= self._in_all[1]
        with self._lock:
            (self._filled.add if is_filled else self._filled.discard)(session_id)
        return is_filled

    def forget(self, session_id: str) -> None:
        """Nothing is left of a session."""
        with self._lock:
            self._filled.discard(session_id)

    def took(self, session_id: str, entries: Sequence[Entry], now: float) -> None:
        """Count what was read."""
        if not entries:
            return
        size = size_of(entries)
        with self._lock:
            self._forget(now)
            since, rows, before = self._taken.get(session_id, (now, 0, 0))
            self._taken[session_id] = (since, rows + len(entries), before + size)

    def full(self, now: float) -> list[str]:
        """The sessions of which nothing more is read in this hour."""
        with self._lock:
            known = list(dict.fromkeys((*self._taken, *self._filled)))
        return [session_id for session_id in known if not self.has_room(session_id, now)]

    def _forget(self, now: float) -> None:
        """Hours that are over; the lock is held."""
        for session_id, (since, _, _) in list(self._taken.items()):
            if now - since < _HOUR:
                return
            del self._taken[session_id]


def size_of(entries: Sequence[Entry]) -> int:
    """What entries are counted as, in bytes."""
    return sum(_ROW_BYTES + _size(entry) for entry in entries)


def _size(entry: Entry) -> int:
    texts = (entry.text, entry.content, entry.spoken, entry.called, entry.tool_calls, entry.reasoning)
    return sum(len(text) for text in texts if text is not None)
