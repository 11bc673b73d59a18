"""What an agent says of its background processes: one value of `session_state`, as JSON. Pure.

The agent writes it when a process begins or ends; the host reads it with everything else that the agent wrote, so it is
an attacker's text until `parsed` has taken it.
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

PROCESSES = "processes"
"""The key in `session_state`."""
MOST_RUNNING = 8
"""Processes of one conversation at the same time."""
MOST_KEPT = 16
"""Processes of which something is known, with those that are over."""
LONGEST_COMMAND, LONGEST_NAME, LONGEST_END, LONGEST_OUTPUT = 200, 40, 100, 1_500
MOST_CHARACTERS = 200_000
"""Of the value: JSON takes six for a control character."""
_KEY = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{LONGEST_NAME - 1}}}")


@dataclass(frozen=True, slots=True)
class BackgroundProcess:
    """One process. `key` is its own for ever, `name` what the agent calls it.

    `ended` says how it ended, and is empty while it runs; `output` is the end of what it printed, told when it is over.
    `wakes`: its end wakes the agent.
    """

    key: str
    name: str
    command: str
    wakes: bool
    ended: str = ""
    output: str = ""

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return not self.ended


def is_name(text: str) -> bool:
    """Whether a process can be called that."""
    return _NAME.fullmatch(text) is not None


def stored(processes: Iterable[BackgroundProcess]) -> str:
    """The value for these processes."""
    return json.dumps([asdict(each) for each in processes], ensure_ascii=False)


def parsed(value: object) -> tuple[BackgroundProcess, ...]:
    """The processes of a value; what is not of that form is left out."""
    if not isinstance(value, str) or len(value) > MOST_CHARACTERS:
        return ()
    try:
        found = json_text.parse(value)
    except ValueError:
        return ()
    entries = found if isinstance(found, list) else []
    return tuple(each for each in map(_process, entries[:MOST_KEPT]) if each is not None)


def _process(entry: Any) -> BackgroundProcess | None:
    if not isinstance(entry, dict):
        return None
    key, name = entry.get("key"), entry.get("name")
    if not isinstance(key, str) or not isinstance(name, str) or not _KEY.fullmatch(key) or not is_name(name):
        return None
    return BackgroundProcess(
        key,
        name,
        one_line(_text(entry, "command"), LONGEST_COMMAND),
        entry.get("wakes") is True,
        one_line(_text(entry, "ended"), LONGEST_END),
        _text(entry, "output")[-LONGEST_OUTPUT:],
    )


def _text(entry: dict[str, Any], name: str) -> str:
    value = entry.get(name)
    return without_lone_surrogates(value).replace("\0", "\ufffd") if isinstance(value, str) else ""
