"""How often an agent may ask something of the host. Pure; times are monotonic, in seconds."""

from __future__ import annotations

from collections import deque

DAY = 86_400.0


class Allowance:
    """How often one session may ask: a number in a minute, and one in a day."""

    def __init__(self, per_minute: int = 30, per_day: int = 1_000) -> None:
        self._limits = ((60.0, per_minute, "minute"), (DAY, per_day, "day"))
        self._answered: deque[float] = deque()

    def refusal(self, now: float) -> str | None:
        """Count one request; why it is not answered, in a few words."""
        while self._answered and now - self._answered[0] >= self._limits[-1][0]:
            self._answered.popleft()
        for seconds, most, unit in self._limits:
            if sum(now - moment < seconds for moment in self._answered) >= most:
                return f"more than {most:,} requests in a {unit}"
        self._answered.append(now)
        return None


class Allowances:
    """The allowances of all sessions. One that asked nothing for a day is forgotten: nothing of it counts any more."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Allowance, Allowance]] = {}  # the session that asked last stands last

    def of(self, session_id: str, now: float) -> tuple[Allowance, Allowance]:
        """Those of a session that asks now: for answers, and for being told that there is none."""
        _, asked, refused = self._known.pop(session_id, (now, Allowance(), Allowance()))
        self._known[session_id] = (now, asked, refused)
        while now - next(iter(self._known.values()))[0] >= DAY:
            del self._known[next(iter(self._known))]
        return asked, refused
