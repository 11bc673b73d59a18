"""Commands in a chat: a message that begins with `/` and one of these words, whole. Pure.

Everything else is text for the agent, `/clearance` and `/etc/passwd` among it. Of a command the first 4,000 characters
are taken: none has more to say.

A command is one entry here: the help, the completion at the terminal and the check of what stands behind the word
follow from it. What it does is one function in host/operations/command_steps.py. They are apart because the command
line, which completes these words, does not load the host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from shared_schema.dataclass import dataclass

# Some platforms append the name of the bot that is meant: /new@assistant.
_LONGEST = 4_000
_COMMAND = re.compile(r"/(?P<name>[a-z]+)(?:@\S+)?(?:\s+(?P<argument>.*))?", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """A word, and the help for it. `argument` is how the help shows what may follow; empty: the command takes nothing.

    `changes_session`: another session goes on in the chat afterwards. `takes_title`: titles are completed behind it.
    `host_wide`: it is about the host and not about a conversation: of several agents in a chat the first one takes it,
    and it is answered where there is none. What answers it is then an entry of host/access/answers.py: HOST_WIDE.
    """

    word: str
    help: str
    argument: str = ""
    changes_session: bool = False
    takes_title: bool = False
    host_wide: bool = False


_ENTRIES = (
    CommandEntry("new", "begin a new conversation", changes_session=True),
    CommandEntry("title", "show or set the title", "[TEXT]", takes_title=True),
    CommandEntry("sessions", "list the conversations of this chat"),
    CommandEntry(
        "resume",
        "go back to an earlier one; alone, to the last one",
        "[NUMBER or TITLE]",
        changes_session=True,
        takes_title=True,
    ),
    CommandEntry("undo", "take back the last exchange, or the last few", "[COUNT]"),
    CommandEntry("retry", "ask the last thing again"),
    CommandEntry("branch", "go on in a copy", changes_session=True),
    CommandEntry("compress", "sum up a long conversation and go on from there", changes_session=True),
    CommandEntry("stop", "stop what the agent is doing"),
    CommandEntry("status", "what the agent is doing"),
    CommandEntry("usage", "what was used, and what is left"),
    CommandEntry("schedule", "what the agent does by itself", "[WHEN: WHAT, or a word and NAME]"),
    CommandEntry("pause", "pause all that runs by itself, for the owner; /pause off ends that", "[off]"),
    CommandEntry("model", "show or change the model, for admins", "[NAME]"),
    CommandEntry("budget", "show or change what may be used, for admins", "[AMOUNT]"),
    CommandEntry("approve", "say yes to what is asked, for who may decide it", "CODE", host_wide=True),
    CommandEntry("deny", "say no to it", "CODE", host_wide=True),
    CommandEntry("whoami", "who you are to the host", host_wide=True),
    CommandEntry("help", "this list"),
)
COMMANDS: Mapping[str, CommandEntry] = {entry.word: entry for entry in _ENTRIES}
"""By their words, in the order in which the help lists them."""


@dataclass(frozen=True, slots=True)
class ChatCommand:
    """A command and the rest of its message, without space around it."""

    name: str
    argument: str = ""

    @property
    def entry(self) -> CommandEntry:
        """What holds for every command of that word."""
        return COMMANDS[self.name]


def parse(text: str) -> ChatCommand | None:
    """The command a message is; None for text that is meant for the agent."""
    said = text.lstrip()[:_LONGEST].rstrip()
    match = _COMMAND.fullmatch(said) if said.startswith("/") else None
    if match is None or match["name"].lower() not in COMMANDS:
        return None
    return ChatCommand(match["name"].lower(), (match["argument"] or "").strip())


def help_text() -> str:
    """All commands, one on each line."""
    lines = [f"/{' '.join(filter(None, (each.word, each.argument)))}: {each.help}" for each in COMMANDS.values()]
    return "\n".join([*lines, "", "Everything else goes to the agent."])
