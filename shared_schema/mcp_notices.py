"""What MCP servers have notified an agent of: one value of `session_state`, as JSON. Pure.

The agent keeps the newest few there; the host takes each once, by its key. To the host it is an attacker's text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from shared_schema import json_text
from shared_schema.dataclass import dataclass
from shared_schema.text import one_line, without_lone_surrogates

NOTIFICATIONS = "notifications"
"""The key in `session_state`."""
MOST_KEPT = 20
LONGEST_TEXT = 2_000
MOST_CHARACTERS = 200_000
"""Of the value: JSON takes two for a quotation mark, and six for a control character."""
_KEY = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Notification:
    """One notification. `key` is its own for ever, `text` its parameters as JSON."""

    key: str
    server: str
    method: str
    text: str


def stored(notifications: Iterable[Notification]) -> str:
    """The value for these notifications."""
    return json.dumps([asdict(each) for each in notifications], ensure_ascii=False)


def parsed(value: object) -> tuple[Notification, ...]:
    """The notifications of a value; what is not of that form is left out."""
    if not isinstance(value, str) or len(value) > MOST_CHARACTERS:
        return ()
    try:
        found = json_text.parse(value)
    except ValueError:
        return ()
    entries = found if isinstance(found, list) else []
    return tuple(each for each in map(_notification, entries[:MOST_KEPT]) if each is not None)


def _notification(entry: Any) -> Notification | None:
    if not isinstance(entry, dict):
        return None
    key, server, method, text = (entry.get(name) for name in ("key", "server", "method", "text"))
    if not all(isinstance(each, str) for each in (key, server, method, text)) or not _KEY.fullmatch(str(key)):
        return None
    said = without_lone_surrogates(str(text)[:LONGEST_TEXT]).replace("\0", "\ufffd")
    return Notification(str(key), one_line(str(server), 64), one_line(str(method), 100), said)
