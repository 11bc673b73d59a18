"""Refusals are told once: an agent that asks for the same thing all the time fills neither the log nor a table."""

from __future__ import annotations

from dataclasses import field

from host.gateway.grant import Tell
from host.gateway.refusal import Reason, Refused
from shared_schema.dataclass import dataclass

_SECONDS = 60.0
_MOST = 20
"""Different ones of a session within that time."""
_TROUBLE = frozenset({Reason.UNREACHABLE, Reason.SILENT, Reason.BROKEN})
"""Failures rather than refusals: each is only logged."""


@dataclass(slots=True)
class _Recent:
    since: float
    told: set[tuple[str, Reason]] = field(default_factory=set)
    left_out: int = 0


class RefusalThrottle:
    """Tells of refusals, and counts those of which it does not."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._recent: dict[str, _Recent] = {}

    def told(self, session_id: str, what: str, refused: Refused, now: float) -> int | None:
        """Tell of a refusal unless that was done lately; how many were left out before it, None when this one is."""
        recent = self._recent.setdefault(session_id, _Recent(now))
        if now - recent.since >= _SECONDS:
            recent.since = now
            recent.told.clear()
        key = (what, refused.reason)
        if key in recent.told or len(recent.told) >= _MOST:
            recent.left_out += 1
            return None
        recent.told.add(key)
        if refused.reason not in _TROUBLE:
            self._tell(session_id, what, refused.what)
        left_out, recent.left_out = recent.left_out, 0
        return left_out

    def forget(self, session_id: str) -> None:
        """The session is over."""
        self._recent.pop(session_id, None)
