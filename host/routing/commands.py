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
    MODEL = "model"
    BUDGET = "budget"
    APPROVE = "approve"
    DENY = "deny"
    WHOAMI = "whoami"
    HELP = "help"


HOST_WIDE = frozenset({CommandName.APPROVE, CommandName.DENY, CommandName.WHOAMI})
"""Commands that are about the host and not about a conversation: of several agents in a chat the first one takes them,
and they are answered where there is none."""

FOR_ADMINS = frozenset({CommandName.MODEL, CommandName.BUDGET})
"""Commands for the owner, and for admins of the agent group. Others are for everybody who may speak in the chat;
`/approve` and `/deny` ask for the role that each approval names."""


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
