"""What a turn used, from what its provider counts. Pure.

Invariant: what was used is counted once. A provider says it in one of three ways:
- for the turn: taken as it is;
- for each step (`Step.usage`): added up, where there is no number for the turn; of a turn that died, with the next;
- for its own session so far (`TurnResult.cumulative`): the turn's part is what came since the last turn of that session
  that was recorded. A session that was not seen last, or a count that went down, began at 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any, TypeGuard

from container_agent.providers.protocol import Step, Usage
from shared_schema.dataclass import dataclass

_LARGEST = 10**15 - 1  # the host takes no larger number for real
_NAMES = tuple(field.name for field in fields(Usage))
_NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class RecordedTotals:
    """Where the count of a provider's session stood at the end of a turn."""

    session: str
    totals: Usage

    def to_text(self) -> str:
        """For `session_state`."""
        return json.dumps({"session": self.session, **asdict(self.totals)})

    @classmethod
    def from_text(cls, text: str | None) -> RecordedTotals | None:
        """What `to_text` wrote; None for what an agent before this one has broken."""
        try:
            found = json.loads(text or "null")
            return cls(str(found["session"]), _parsed(text or ""))
        except (ValueError, TypeError, KeyError):
            return None


def numbers(usage: Usage) -> tuple[Any, ...]:
    """The numbers of `Usage`, in its order."""
    return tuple(getattr(usage, name) for name in _NAMES)  # `astuple` copies each of them deeply


def of_steps(steps: Iterable[Step]) -> Usage:
    """The sum of what the steps say; what is not JSON or no number does not count."""
    return of_texts(step.usage for step in steps if step.usage is not None)


def of_texts(texts: Iterable[str]) -> Usage:
    """The same of the texts alone."""
    total = _NOTHING
    for text in texts:
        total = added(total, _parsed(text))
    return total


def added(one: Usage, other: Usage) -> Usage:
    """Both together; unknown only where both are."""
    return Usage(*(a if b is None else b if a is None else a + b for a, b in zip(*_pair(one, other), strict=True)))


def of_turn(said: Usage, steps: Usage) -> Usage:
    """What a turn used that says `said` for itself, and whose steps say `steps`: number by number, never both."""
    return Usage(*(b if a is None else a for a, b in zip(*_pair(said, steps), strict=True)))


def since(last: RecordedTotals | None, session: str, totals: Usage) -> tuple[Usage, RecordedTotals]:
    """What came on top of the totals recorded last, and what to record now."""
    if last is None or last.session != session or _went_down(last.totals, totals):
        return totals, RecordedTotals(session, totals)
    pairs = list(zip(*_pair(last.totals, totals), strict=True))
    kept = Usage(*(a if b is None else b for a, b in pairs))
    return Usage(*(None if b is None else b - (a or 0) for a, b in pairs)), RecordedTotals(session, kept)


def tokens(said: object) -> int | None:
    """A number of tokens that can be, or None."""
    return int(said) if _can_be(said) else None


def storable(usage: Usage) -> Usage:
    """The same with whole tokens, and without numbers that cannot be."""
    counts: dict[str, Any] = {name: tokens(getattr(usage, name)) for name in _NAMES}
    cost = usage.cost_usd if _can_be(usage.cost_usd) else None
    return Usage(**counts | {"cost_usd": cost})


def _can_be(said: object) -> TypeGuard[float]:
    return isinstance(said, int | float) and not isinstance(said, bool) and 0 <= said <= _LARGEST


def _went_down(before: Usage, now: Usage) -> bool:
    return any(a is not None and b is not None and b < a for a, b in zip(*_pair(before, now), strict=True))


def _pair(one: Usage, other: Usage) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    return numbers(one), numbers(other)


def _parsed(text: str) -> Usage:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return _NOTHING
    if not isinstance(found, dict):
        return _NOTHING
    return storable(Usage(**{name: found.get(name) for name in _NAMES}))
