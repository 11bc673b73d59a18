"""Commands in a chat: a message that begins with `/` and one of these words, whole. Pure.

Everything else is text for the agent, `/clearance` and `/etc/passwd` among it. Of a command the first 4,000 characters
are taken: none has more to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

# Some platforms append the name of the bot that is meant: /new@assistant.
_LONGEST = 4_000
_COMMAND = re.compile(r"/(?P<name>[a-z]+)(?:@\S+)?(?:\s+(?P<argument>.*))?", re.DOTALL | re.IGNORECASE)


class CommandName(StrEnum):
    NEW = "new"
    TITLE = "title"
    SESSIONS = "sessions"
    RESUME = "resume"
    UNDO = "undo"
    RETRY = "retry"
    BRANCH = "branch"
    COMPRESS = "compress"
    STOP = "stop"
    STATUS = "status"
    USAGE = "usage"
    HELP = "help"


@dataclass(frozen=True, slots=True)
class ChatCommand:
    """A command and the rest of its message, without space around it."""

    name: CommandName
    argument: str = ""


def parse(text: str) -> ChatCommand | None:
    """The command a message is; None for text that is meant for the agent."""
    said = text.lstrip()[:_LONGEST].rstrip()
    match = _COMMAND.fullmatch(said) if said.startswith("/") else None
    if match is None or match["name"].lower() not in set(CommandName):
        return None
    return ChatCommand(CommandName(match["name"].lower()), (match["argument"] or "").strip())
