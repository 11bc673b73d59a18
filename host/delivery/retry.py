"""When to try again to send a message, and when to give up. Pure.

Counted in attempts and planned waits, not by the wall clock, so that neither a jump of the clock nor a restart of the
host shortens or stretches the hours.
"""

from __future__ import annotations

from host.backoff import Backoff
from shared_schema.dataclass import dataclass

LONGEST_WAIT = 60.0
"""Seconds. So long at most an answer is late where nothing else shows that the platform is well again."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The first wait (seconds; doubles up to a minute) and how many hours of waits in all."""

    first_seconds: float
    hours: float


def wait_after(attempts: int, policy: RetryPolicy, *, retry_after: float | None = None) -> float | None:
    """Seconds to wait after that many failed attempts, or None to give up.

    What the platform asks for (`retry_after`) is honoured when it is longer.
    """
    waited = sum(_wait(number, policy) for number in range(1, attempts))
    if waited >= policy.hours * 3600:
        return None
    return max(_wait(attempts, policy), min(retry_after or 0.0, policy.hours * 3600))


def _wait(attempt: int, policy: RetryPolicy) -> float:
    return Backoff(policy.first_seconds, max(LONGEST_WAIT, policy.first_seconds)).after(attempt)
