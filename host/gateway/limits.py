"""How much an agent group may do in a minute. Pure: the time is handed in."""

from __future__ import annotations

from collections import deque

from host.gateway.expected import LARGEST_OUTPUT
from shared_schema.dataclass import dataclass

_MINUTE = 60.0
_SOON = 5


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Of model calls of an agent group in a minute, None for no limit; and of connections of one session at a time.

    `answer_tokens` is how long an answer is taken to be at most where neither its request nor its model says it.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    connections: int = 256
    answer_tokens: int = LARGEST_OUTPUT


class Minute:
    """What an agent group did within the last minute, by the second. Times are of a monotonic clock."""

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque()  # [second, requests, tokens], the oldest first
        self.under_way = 0
        """Tokens that calls can use whose use is not known yet."""

    def wait(self, limits: CallLimits, now: float) -> int | None:
        """Seconds until another request may be made, at least 1; None when it may be made now."""
        while self._seconds and self._seconds[0][0] <= now - _MINUTE:
            self._seconds.popleft()
        waits = [
            self._until_below(1, limits.requests_per_minute, now),
            self._until_below(2, limits.tokens_per_minute, now),
            self._until_over(limits.tokens_per_minute),
        ]
        return max((wait for wait in waits if wait is not None), default=None)

    def add(self, now: float, *, requests: int = 0, tokens: int = 0) -> None:
        """Take down what was done."""
        if not self._seconds or self._seconds[-1][0] != int(now):
            self._seconds.append([int(now), 0, 0])
        self._seconds[-1][1] += requests
        self._seconds[-1][2] += tokens

    def _until_over(self, limit: int | None) -> int | None:
        """Where what is under way may be more than what is left: a call is over sooner than a minute."""
        tokens = sum(entry[2] for entry in self._seconds) + self.under_way
        return _SOON if limit is not None and self.under_way and tokens >= limit else None

    def _until_below(self, column: int, limit: int | None, now: float) -> int | None:
        if limit is None:
            return None
        total = sum(entry[column] for entry in self._seconds)
        if total < limit:
            return None
        for entry in self._seconds:
            total -= entry[column]
            if total < limit:
                return max(1, int(entry[0] + _MINUTE - now) + 1)
        return int(_MINUTE)  # nothing at all is allowed
