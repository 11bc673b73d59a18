"""What can be completed at the prompt, and what a line means: a word for this program, files to attach. Pure but for
looking at names of files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from host.routing.commands import COMMANDS
from shared_schema.dataclass import dataclass

LEAVE = ("/exit", "/quit")
AGENT = "/agent"
_OWN = {"/exit": "leave", "/quit": "leave", AGENT: "talk to another agent"}
_FILE = re.compile(r'(?<!\S)@(?:"(?P<quoted>[^"\n]+)"|(?P<bare>[^\s"]\S*))')
_AT_END = re.compile(r'(?<!\S)@(?P<quote>"?)(?P<path>[^"\n]*)$')
_MOST = 50


@dataclass(frozen=True, slots=True)
class Completion:
    """`text` replaces the last `length` characters before the cursor."""

    text: str
    length: int
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class KnownWords:
    """The names that can be completed."""

    agents: Sequence[str] = ()
    titles: Sequence[str] = ()


def own_help(text: str) -> str:
    """What the prompt itself adds to the answer to `/help`; empty for any other text."""
    if text.strip().lower() != "/help":
        return ""
    words = f"{AGENT} NAME: {_OWN[AGENT]}; {LEAVE[0]}: {_OWN[LEAVE[0]]}"
    return f"At this prompt also {words}; @FILE in a message attaches it."


def is_leaving(text: str) -> bool:
    """Whether a line means to leave the prompt."""
    return text.strip().lower() in LEAVE


def other_agent(text: str) -> str | None:
    """The agent that `/agent NAME` names; empty without a name, None for any other text."""
    word, _, rest = text.strip().partition(" ")
    return rest.strip() if word.lower() == AGENT else None


def attached(text: str) -> list[str]:
    """The files that a message names as `@PATH` or `@"PATH"`: those that there are, absolute, each once.

    A word that names no file is only a word, such as the name of a person.
    """
    found: dict[str, None] = {}
    for match in _FILE.finditer(text):
        path = Path(match["quoted"] or match["bare"]).expanduser()
        for each in (path, Path(str(path).rstrip(".,;:!?)"))):  # a sentence may end behind it
            try:
                if each.is_file():
                    found[str(each.absolute())] = None
                    break
            except (OSError, ValueError):  # too long a name, for instance
                continue
    return list(found)


def completions(before: str, known: KnownWords) -> Iterator[Completion]:
    """What may follow the text before the cursor."""
    if (match := _AT_END.search(before)) is not None and (match["quote"] or " " not in match["path"]):
        yield from _files(match["path"], is_quoted=bool(match["quote"]))
        return
    if not before.startswith("/") or "\n" in before:
        return
    word, space, rest = before.partition(" ")
    if not space:
        meanings = {**{f"/{entry.word}": entry.help for entry in COMMANDS.values()}, **_OWN}
        for command in sorted(meanings):
            if command.startswith(word.lower()):
                yield Completion(command, len(word), meanings[command])
        return
    names = known.agents if word == AGENT else known.titles if _takes_title(word) else ()
    for name in names:
        if name.casefold().startswith(rest.casefold()):
            yield Completion(name, len(rest))


def _takes_title(word: str) -> bool:
    entry = COMMANDS.get(word.removeprefix("/"))
    return entry is not None and entry.takes_title


def _files(typed: str, *, is_quoted: bool) -> Iterator[Completion]:
    """Files and folders whose path begins like that. Hidden ones only when a dot was typed."""
    folder, _, start = typed.rpartition("/")
    base = Path(f"{folder}/" if folder or typed.startswith("/") else ".").expanduser()
    try:
        entries = sorted(os.scandir(base), key=lambda entry: entry.name)
    except (OSError, ValueError):
        return
    for entry in [e for e in entries if e.name.startswith(start) and e.name.isprintable()][:_MOST]:
        if entry.name.startswith(".") and not start.startswith("."):
            continue
        slash = "/" if entry.is_dir() else ""
        path = f"{folder}/{entry.name}" if folder or typed.startswith("/") else entry.name
        if is_quoted or " " in path:
            path = path if is_quoted else f'"{path}'
            slash = slash or '"'
        yield Completion(f"{path}{slash}", len(typed), "folder" if slash == "/" else "file")
