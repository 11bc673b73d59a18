"""Which of several keys of a model service a call gets: each in turn, but for those that the service refused lately.

Invariant: a key that the service refused rests, and while another one does not, it is not taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import SecretStr

_REFUSED_SECONDS = 600.0
"""How long a key rests that the service does not take."""
_BUSY_SECONDS = 60.0
"""How long one rests that has had enough, where the service does not say."""
_LONGEST_SECONDS = 3600.0
_REFUSED = frozenset({401, 402, 403})
_BUSY = frozenset({429, 529})


class KeyRing:
    """The keys of all services, by the name of the service and the key's place in its list. Times are monotonic."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}
        self._rests: dict[tuple[str, str], float] = {}

    def choose(self, service: str, keys: Sequence[SecretStr], now: float) -> SecretStr | None:
        """The key for a call: the next one that does not rest, or else the one that rests the shortest."""
        if len(keys) < 2:
            return keys[0] if keys else None
        start = self._next.get(service, 0)
        order = [keys[(start + number) % len(keys)] for number in range(len(keys))]
        found = min(order, key=lambda key: max(self._until(service, key), now))  # the first of equals
        self._next[service] = (keys.index(found) + 1) % len(keys)
        return found

    def has_another(self, service: str, keys: Sequence[SecretStr], now: float) -> bool:
        """Whether one of the keys does not rest."""
        return len(keys) > 1 and any(self._until(service, key) <= now for key in keys)

    def answered(self, service: str, key: SecretStr | None, status: int, retry_after: str | None, now: float) -> bool:
        """Take down how a service answered a call; whether that was about its key."""
        if key is None or status not in _REFUSED | _BUSY:
            return False
        seconds = _REFUSED_SECONDS if status in _REFUSED else _seconds(retry_after)
        self._rests = {each: until for each, until in self._rests.items() if until > now}
        self._rests[service, key.get_secret_value()] = now + seconds
        return True

    def _until(self, service: str, key: SecretStr) -> float:
        return self._rests.get((service, key.get_secret_value()), 0.0)


def _seconds(retry_after: str | None) -> float:
    """What `Retry-After` says, within reason."""
    text = (retry_after or "").strip()
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        return _BUSY_SECONDS
    return min(max(float(text), 1.0), _LONGEST_SECONDS)
