"""What a tool is: a name, what it is for, the form of its arguments, and a function. Pure but for the functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError

Arguments = Mapping[str, Any]

SECONDS = 30.0
MAX_CHARACTERS = 30_000
"""About 8,000 tokens: what one result may take of a model's window."""


class ToolRefused(DumbwaiterError):
    """A call that cannot be carried out; the sentence is the result that the model gets."""

    @property
    def hint(self) -> str | None:
        """What to do next, as the tool says it: what an error of the system suggests names paths, for operators."""
        return self.own_hint


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. `parameters` is the JSON schema of its arguments, in the words that `schema.py` knows.

    `run` gets arguments that fit the schema, with its defaults, and returns the result as text. It may raise
    `ToolRefused`. After `seconds`, or what `seconds_of` says of the arguments, it is cancelled. The arguments of a
    foreign tool are any object: its own server checks them.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Callable[[Arguments], Awaitable[str]]
    seconds: float = SECONDS
    seconds_of: Callable[[Arguments], float] | None = None
    max_characters: int = MAX_CHARACTERS
    is_foreign: bool = False

    def limit(self, arguments: Arguments) -> float:
        """How long a call with these arguments may take, in seconds."""
        return self.seconds if self.seconds_of is None else self.seconds_of(arguments)


@dataclass(frozen=True, slots=True)
class Definition:
    """What a model is told of a tool. `parameters` is JSON schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of a call: text for the model, and whether it says why nothing was done."""

    text: str
    is_error: bool = False


def shortened(text: str, most: int) -> str:
    """The text, or its beginning and its end with a note of what is missing between."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"
