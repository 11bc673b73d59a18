"""The line above each message that says what a model cannot know otherwise: name, time, sender, what it answers.

    [in-3 | Sun 2026-03-01 09:30 | Ann | replies to out-2: "Shall I?"]
    Yes, please.

It is a part of the message and stays as it is in the transcript, so that a vendor's prompt cache holds: nothing that
changes by itself stands in the instructions. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, tzinfo

from shared_schema.clock import from_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileDamaged, InvalidValue
from shared_schema.rows import MessageIn, MessageInKind, decode

_MAX_NAME = 100
_MAX_QUOTE = 200
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HEADING = re.compile(r"\[in-\d+ \| [^\n]*\]\n?")

SELF = "you, from another conversation"


@dataclass(frozen=True, slots=True)
class Names:
    """What messages are called: `of` gives `in-<seq>` or `out-<seq>` for a message's id, None for one not known here.

    `last` is the agent's own newest message, empty while there is none.
    """

    of: Callable[[str], str | None] = lambda message_id: None
    last: str = ""
    undelivered: tuple[str, ...] = ()
    """A line for each message of the agent's own that never arrived, which it has not heard of yet."""


def heading(message: MessageIn, *, zone: str, names: Names, tells_last: bool) -> str:
    """The line. `zone` is the name of the conversation's time zone; `tells_last`: with the agent's own last one."""
    try:
        content = decode(message.content)
    except FileDamaged:
        content = {}
    parts = [f"in-{message.seq}", local_time(message.timestamp, zone), _sender(message)]
    if isinstance(place := content.get("chat"), str):
        parts.append(f"in {_plain(place, _MAX_NAME)}")
    parts.append(_reply(content.get("reply_to"), names))
    if tells_last and names.last:
        parts.append(f"your last message is {names.last}")
    return f"[{' | '.join(part for part in parts if part)}]"


def local_time(stored: str, zone: str) -> str:
    """A stored time on the clock of a zone, with day and date; in UTC, and saying so, where the zone is not known."""
    try:
        moment = from_text(stored)
    except InvalidValue:
        return ""
    where, note = _zone(zone)
    here = moment.astimezone(where)
    return f"{_DAYS[here.weekday()]} {here:%Y-%m-%d %H:%M}{note}"


def without_heading(text: str) -> str:
    """A recorded message without its line."""
    found = _HEADING.match(text)
    return text if found is None else text[found.end() :]


def _zone(name: str) -> tuple[tzinfo, str]:
    if name == "UTC":
        return UTC, ""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # with what it brings, a tenth of an agent's start

    try:
        return ZoneInfo(name), ""
    except (ZoneInfoNotFoundError, ValueError, OSError):  # an image without a database of zones
        return UTC, " UTC"


def _sender(message: MessageIn) -> str:
    if message.kind == MessageInKind.AGENT:
        return SELF
    if message.kind == MessageInKind.TASK:
        name = _plain(message.sender_name or "", _MAX_NAME)
        return f"{name}: no person has written this. Answer [SILENT] alone to send nothing".strip()
    return _plain(message.sender_name or message.sender_id or "", _MAX_NAME)


def _reply(said: object, names: Names) -> str:
    """What the message replies to or quotes."""
    if not isinstance(said, dict):
        return ""
    name = names.of(said["message"]) if isinstance(said.get("message"), str) else None
    quote = _plain(said["text"], _MAX_QUOTE) if isinstance(said.get("text"), str) else ""
    sender = _plain(said["sender"], _MAX_NAME) if isinstance(said.get("sender"), str) else ""
    whose = name or (f"a message of {sender}" if sender else "an earlier message")
    return f'replies to {whose}: "{quote}"' if quote else f"replies to {whose}"


def _plain(text: str, most: int) -> str:
    """Returns a foreign text for use within the heading: on one line, without the characters that end or divide it."""
    plain = " ".join(text.split()).translate(str.maketrans('[]|"', "()/'"))
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"
