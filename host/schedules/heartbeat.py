"""Whether a heartbeat wakes an agent, and what it is told. Pure.

A heartbeat without a reason costs no model call: there is one when a message came, a file of the workspace changed or a
time in the file has come since the last one, or when the file has a line that begins with `always:`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from shared_schema.dataclass import dataclass

FILE = "HEARTBEAT.md"
OK = "HEARTBEAT_OK"
"""What an agent answers when there is nothing to say."""
MOST_BYTES = 64 * 1024
_OF_OTHER_CLOCKS = timedelta(minutes=1)
_ALWAYS = re.compile(r"^\s*(?:[-*]\s+)?always\s*:", re.IGNORECASE)
_DATE = re.compile(r"\b(\d{4})-(\d{2})-(\d{2})(?:[ T](\d{2}):(\d{2}))?")
_DONE = re.compile(r"^\s*[-*]\s+\[[xX]\]")


@dataclass(frozen=True, slots=True)
class HeartbeatFacts:
    """What a heartbeat sees: the text of the file (None: there is none), when a file of the workspace changed last, and
    whether a message came since the last heartbeat."""

    text: str | None
    changed_at: datetime | None = None
    has_new_message: bool = False


def reason_to_rest(facts: HeartbeatFacts, last_at: datetime | None, zone: str, now: datetime) -> str | None:
    """Why the agent is not woken, as a sentence; None: it is. `last_at` is when it was woken last."""
    lines = [] if facts.text is None else [line for line in facts.text.splitlines() if _says_something(line)]
    if not lines:
        return f"there is nothing in {FILE}"
    if last_at is None or any(_ALWAYS.match(line) for line in lines):
        return None
    has_changed = facts.changed_at is not None and last_at < facts.changed_at <= now + _OF_OTHER_CLOCKS
    if facts.has_new_message or has_changed or any(last_at < due <= now for due in _due_times(lines, zone)):
        return None
    return "nothing has happened since the last one: no message, no changed file, no time that has come"


def prompt(text: str, last: str | None) -> str:
    """What the agent is told. `last` says when the last heartbeat was and what it came to."""
    before = "This is the first one." if last is None else f"The last one: {last}."
    return (
        f"This is a heartbeat: look at what you keep an eye on, and act where that is needed. {before} "
        f"When there is nothing to say, answer {OK} alone. {FILE}:\n\n{text.strip()}"
    )


def _says_something(line: str) -> bool:
    """Whether a line is more than blank, a heading, a comment or an item that is done."""
    text = line.strip()
    return bool(text) and not text.startswith(("#", "<!--")) and _DONE.match(line) is None


def _due_times(lines: list[str], zone: str) -> Iterator[datetime]:
    """The times that lines name, on the clock of the zone; a day alone is its beginning."""
    for line in lines:
        for found in _DATE.finditer(line):
            year, month, day, hour, minute = (int(part or 0) for part in found.groups())
            try:
                yield datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(zone)).astimezone(UTC)
            except ValueError:  # no date of a calendar
                continue
