"""What people are shown of an approval. Pure.

Invariant: a card shows every argument whole. What an argument may hold is bounded where the approval is asked for, so
that nothing has to be left out here; a text of several lines is set apart, so that it cannot look like lines of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared_schema.clock import from_text
from shared_schema.dataclass import dataclass
from shared_schema.text import is_shown

MOST_CHARACTERS = 2_500
"""All arguments of one approval together. Where a platform takes less, a card is several messages (`card_parts`)."""
MOST_BUTTONS = 8
_PREFIX = "approval:"
NO = "no"


@dataclass(frozen=True, slots=True)
class ApprovalChoice:
    """One way to say yes: what its button says, and the agent group it is about, if it is about one.

    `value` is what is stored and typed.
    """

    value: str
    label: str
    agent_group_id: str | None = None


def text(
    question: str, arguments: Mapping[str, Any], choices: Sequence[ApprovalChoice], code: str, expires_at: str
) -> str:
    """The text of a card."""
    until = from_text(expires_at)
    lines = [about(question, arguments), ""]
    if len(choices) > 1:
        lines += [f"{number}. {choice.label}" for number, choice in enumerate(choices, 1)]
        how = f"/approve {code} and a number, or /deny {code}"
    else:
        how = f"/approve {code} or /deny {code}"
    lines.append(f"Press a button, or write {how}. It expires at {until:%Y-%m-%d %H:%M} UTC.")
    return "\n".join(lines)


def about(question: str, arguments: Mapping[str, Any]) -> str:
    """What a card asks, without the ways to answer."""
    return "\n".join([question, "", *(line for name, value in arguments.items() for line in _shown(name, value))])


def buttons(choices: Sequence[ApprovalChoice], code: str) -> list[tuple[str, str]]:
    """Label and value of each button; the last one says no."""
    yes = [(choice.label, f"{_PREFIX}{code}:{number}") for number, choice in enumerate(choices[:MOST_BUTTONS], 1)]
    return [*yes, ("No", f"{_PREFIX}{code}:{NO}")]


def parsed(value: str) -> tuple[str, str] | None:
    """Code and answer (`no`, or the number of a choice) of a button; None for one of another kind."""
    if not value.startswith(_PREFIX):
        return None
    code, _, answer = value[len(_PREFIX) :].partition(":")
    return code, answer


def decided(card: str, sentence: str) -> str:
    """A card whose approval is decided: what it was about, and how it ended, without the way to answer."""
    kept = card.rpartition("\nPress a button, or write ")[0] or card
    return f"{kept.rstrip()}\n\n{sentence}"


def shortened(message: str, longest: int = 1_000) -> str:
    """Returns a person's message as an argument of a card, with a note of what was left out of it."""
    if len(message) <= longest:
        return message
    return f"{message[:longest]} [the first {longest:,} of {len(message):,} characters]"


def _shown(name: str, value: Any) -> list[str]:
    """Returns an argument with its name; the name is ours, the value is foreign."""
    lines = [_plain(line) for line in _worded(value).splitlines()] or [""]
    label = name.replace("_", " ").capitalize()
    if len(lines) == 1:
        return [f"{label}: {lines[0]}"]
    return [f"{label}:", *(f"  | {line}" for line in lines)]


def _worded(value: Any) -> str:
    match value:
        case None:
            return "not known"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(_worded, value))
        case dict():
            return "\n".join(f"{name}: {_worded(each)}" for name, each in value.items())
        case _:
            return str(value)


def _plain(line: str) -> str:
    return "".join(character if is_shown(character) else "?" for character in line)
