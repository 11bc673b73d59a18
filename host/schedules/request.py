"""What may be asked of a schedule, and the columns that come of it. Pure.

People and agents say the same words; agents have closer limits.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from host.schedules import when
from host.schedules.catch_up import Missed
from host.schedules.recurrence import Kind, Recurrence, first, stored
from shared_schema.clock import to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue
from shared_schema.text import is_all_shown

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
MODES = ("own", "chat")
LONGEST_PROMPT = 20_000
LONGEST_CHECK = 10_000
DEFAULT_FAILURES = 3
_MOST_FAILURES, _MOST_RUNS, _MOST_TOKENS, _MOST_USD = 100, 10**9, 10**15, 1e9

SHORTEST_OF_AGENT = 60
"""Seconds between two runs of a schedule that an agent makes by itself."""
MOST_OF_AGENT = 50
"""Schedules that an agent has made by itself and that are not over."""
_LOOKED_AT = 10


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be set; None: as it is, or as usual. `clear` are fields that are taken away."""

    when: str | None = None
    prompt: str | None = None
    name: str | None = None
    zone: str | None = None
    to: str | None = None
    session: str | None = None
    missed: str | None = None
    max_runs: int | None = None
    ends: str | None = None
    max_failures: int | None = None
    budget_tokens: int | None = None
    budget_usd: float | None = None
    check: str | None = None
    urgent: bool | None = None
    clear: tuple[str, ...] = ()


CLEARABLE = {
    "max_runs": "max_runs", "ends": "ends_at", "budget_tokens": "budget_tokens", "budget_usd": "budget_usd",
    "check": "check_script",
}  # fmt: skip


def columns(wish: Wish, zone: str, now: datetime) -> dict[str, Any]:
    """The columns that a wish changes, but for where it speaks. Raises `InvalidValue`, with an example.

    `zone` is the time zone of the schedule, where the wish names none.
    """
    found: dict[str, Any] = {}
    zone = when.zone(wish.zone or zone)
    if wish.zone is not None:
        found["timezone"] = zone
    if wish.when is not None:
        found |= planned(when.recurrence(wish.when, zone, now), now)
    if wish.prompt is not None:
        found["prompt"] = _text(wish.prompt, "the prompt", LONGEST_PROMPT)
    if wish.name is not None:
        found["name"] = valid_name(wish.name)
    if wish.check is not None:
        found["check_script"] = _text(wish.check, "the check script", LONGEST_CHECK)
    if wish.session is not None:
        found["session_mode"] = _one_of(wish.session, MODES, "session")
    if wish.missed is not None:
        found["missed"] = _one_of(wish.missed, tuple(Missed), "rule for missed times")
    if wish.ends is not None:
        found["ends_at"] = to_text(when.moment(wish.ends, zone, now))
    if wish.urgent is not None:
        found["urgent"] = int(wish.urgent)
    for name, value, most in (
        ("max_runs", wish.max_runs, _MOST_RUNS),
        ("max_failures", wish.max_failures, _MOST_FAILURES),
        ("budget_tokens", wish.budget_tokens, _MOST_TOKENS),
        ("budget_usd", wish.budget_usd, _MOST_USD),
    ):
        if value is not None:
            if not 0 < value <= most:
                raise InvalidValue(f"'{name}' must be more than 0 and at most {most:,.0f}, not {value:g}")
            found[name] = value
    for name in wish.clear:
        if name not in CLEARABLE:
            raise InvalidValue(f"'{name[:40]}' cannot be taken away", hint=f"one of {', '.join(CLEARABLE)} can")
        found[CLEARABLE[name]] = None
    return found


def planned(recurrence: Recurrence, now: datetime) -> dict[str, Any]:
    """The columns of when a schedule is due."""
    return {
        "kind": str(recurrence.kind),
        "spec": recurrence.spec,
        "timezone": recurrence.zone,
        "next_at": stored(first(recurrence, now)),
        "planned_at": to_text(now),
    }


def require_of_agent(recurrence: Recurrence, now: datetime) -> None:
    """Raises `InvalidValue` for a schedule that is due more often than an agent may ask for."""
    if recurrence.kind == Kind.ONCE:
        return
    at = first(recurrence, now)
    for _ in range(_LOOKED_AT):
        if at is None:
            return
        after = first(recurrence, at)
        if after is not None and (after - at).total_seconds() < SHORTEST_OF_AGENT:
            raise InvalidValue(
                f"it would run more often than every {SHORTEST_OF_AGENT} seconds: ask for 'every 5m' or more"
            )
        at = after


def valid_name(name: str) -> str:
    """`name`, if it can name a schedule. Raises `InvalidValue`."""
    if NAME.fullmatch(name) is None:
        raise InvalidValue(f"'{name[:80]}' cannot be a name: use small letters, digits, '-' and '_', at most 63")
    return name


def name_of(prompt: str) -> str:
    """A name for a schedule without one: the first words of its prompt."""
    words = re.findall(r"[a-z0-9]+", prompt.lower())
    return "-".join(words[:4])[:40].strip("-") or "schedule"


def _text(text: str, what: str, most: int) -> str:
    if not text.strip() or len(text) > most or "\0" in text or not is_all_shown(" ".join(text.split())):
        raise InvalidValue(f"{what} must be a text of 1 to {most:,} characters")
    return text.strip()


def _one_of(value: str, words: tuple[str, ...], what: str) -> str:
    if value not in words:
        raise InvalidValue(f"'{value[:40]}' is not a {what}", hint=f"use one of {', '.join(words)}")
    return value
