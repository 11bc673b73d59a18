"""What the fake model server answers: an `Answer`, made by a test, or by the words of the last user message.

Of several messages in a row, the last one with a command counts. One command per line; lines of the same answer stand
together, and `then` begins the answer to the next request, which comes after the results of the tools that the one
before called:

    say TEXT              the text, in one piece
    stream N SECONDS TEXT the text in N pieces, that many seconds before each
    think TEXT            reasoning, before everything else
    call NAME [JSON]      a tool call with these arguments ({}); several lines are several calls in one answer
    cut TEXT              the text, broken off because the answer got too long
    refuse [TEXT]         a refusal
    empty                 nothing at all

    rate-limit [SECONDS]  429, with `retry-after` if there is a number
    overloaded            the service has too much to do (Anthropic 529, OpenAI 503)
    error STATUS          that status
    bad-key               401
    no-model              404
    too-long              400, as for a prompt that does not fit into the window
    no-credit             the account is empty
    failing               an error in mid-stream, after half of the text
    drop                  the connection goes away in mid-stream, after half of the text
    close                 the answer ends as if it were whole, after half of the text and without a word about its end
    garble                what is no JSON in mid-stream, after half of the text
    stall                 nothing more comes, after half of the text
    endless               the text again and again, for ever

What is said beside the results of tools, or by the role `system`, counts when there is a command in it. A line that is
no command is left out; so is a name and a colon before one. A message without any command is answered with `You said: `
and its last line, and what comes after the last answer of a program with the last tool result.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from typing import Any


class Ending(StrEnum):
    """How an answer ends."""

    DONE = auto()
    CUT = auto()
    REFUSED = auto()
    FAILING = auto()
    DROPPED = auto()
    CLOSED = auto()
    GARBLED = auto()
    STALLED = auto()
    ENDLESS = auto()


class Fault(StrEnum):
    """An error in place of an answer."""

    RATE_LIMIT = auto()
    OVERLOADED = auto()
    STATUS = auto()
    BAD_KEY = auto()
    NO_MODEL = auto()
    TOO_LONG = auto()
    NO_CREDIT = auto()
    GATEWAY = auto()
    REJECTED = auto()


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call of a tool; `arguments` as a text are sent as they are, JSON or not."""

    name: str
    arguments: dict[str, Any] | str

    @property
    def text(self) -> str:
        """The arguments as the wire has them."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: reasoning, text in `pieces` with `delay` seconds before each, calls; or a fault.

    `status` is that of `Fault.STATUS` and of `Fault.GATEWAY`, a refusal of the host's gateway with these `words`;
    those of `Fault.REJECTED` say what is wrong with the request. `retry_after` is in seconds. `raw` are the data of the
    events of a stream, in place of all else.
    """

    text: str = ""
    pieces: int = 1
    delay: float = 0.0
    reasoning: str = ""
    calls: tuple[ToolUse, ...] = ()
    ending: Ending = Ending.DONE
    fault: Fault | None = None
    status: int = 500
    retry_after: float | None = None
    words: str = ""
    raw: tuple[str, ...] = ()

    def split(self) -> list[str]:
        """The text in its pieces, nearly equal; as many as it has characters at most."""
        count = max(1, min(self.pieces, len(self.text)))
        marks = [len(self.text) * number // count for number in range(count + 1)]
        return [self.text[a:b] for a, b in itertools.pairwise(marks)] if self.text else []


@dataclass(frozen=True, slots=True)
class Asked:
    """What matters of a request for the words: the last text of a person, and what came after it."""

    said: str
    answers_since: int
    last_result: str = ""


_REFUSAL = "I cannot help with that."
_HALF = "this is half of it, and this is never said"
_ENDINGS = {
    "failing": Ending.FAILING,
    "drop": Ending.DROPPED,
    "close": Ending.CLOSED,
    "garble": Ending.GARBLED,
    "stall": Ending.STALLED,
    "endless": Ending.ENDLESS,
}
_FAULTS = {
    "overloaded": Fault.OVERLOADED,
    "bad-key": Fault.BAD_KEY,
    "no-model": Fault.NO_MODEL,
    "too-long": Fault.TOO_LONG,
    "no-credit": Fault.NO_CREDIT,
}


def answer_to(asked: Asked) -> Answer:
    """What the words of a request tell the server to answer."""
    program: list[Answer] = []
    current: Answer | None = None
    for line in asked.said.splitlines():
        if line.strip() == "then":
            program, current = [*program, current or Answer()], None
        else:
            current = _obeyed(current or Answer(), line.strip()) or current
    program += [current] if current else []
    if not program:
        return Answer(text=f"You said: {(asked.said.splitlines() or [''])[-1]}")
    if asked.answers_since < len(program):
        return program[asked.answers_since]
    return Answer(text=f"The tool said: {asked.last_result}")


def has_command(text: str) -> bool:
    """Whether any line of a text is a command."""
    return any(_obeyed(Answer(), line.strip()) for line in text.splitlines())


def words_of(texts: Sequence[str]) -> str:
    """Which of the texts of a message, or of messages in a row, counts: the last one with a command, or the last."""
    return next((text for text in reversed(texts) if has_command(text)), texts[-1] if texts else "")


def _obeyed(answer: Answer, line: str) -> Answer | None:
    """The answer with what a line adds to it; None for a line that is no command."""
    word, _, rest = line.partition(" ")
    if word.endswith(":"):
        word, _, rest = rest.partition(" ")
    match word:
        case "say":
            return replace(answer, text=rest)
        case "stream":
            pieces, delay, text = rest.split(" ", 2)
            return replace(answer, text=text, pieces=int(pieces), delay=float(delay))
        case "think":
            return replace(answer, reasoning=rest)
        case "call":
            name, _, arguments = rest.partition(" ")
            return replace(answer, calls=(*answer.calls, ToolUse(name, arguments or "{}")))
        case "cut":
            return replace(answer, text=rest, ending=Ending.CUT)
        case "refuse":
            return replace(answer, text=rest or _REFUSAL, ending=Ending.REFUSED)
        case "empty":
            return answer
        case "rate-limit":
            return replace(answer, fault=Fault.RATE_LIMIT, retry_after=float(rest) if rest else None)
        case "error":
            return replace(answer, fault=Fault.STATUS, status=int(rest))
        case _ if word in _ENDINGS:
            return replace(answer, text=answer.text or _HALF, pieces=max(answer.pieces, 4), ending=_ENDINGS[word])
        case _ if word in _FAULTS:
            return replace(answer, fault=_FAULTS[word])
    return None


def tokens(text: str) -> int:
    """How many tokens a text has here: one for each four characters begun."""
    return (len(text) + 3) // 4


@dataclass(frozen=True, slots=True)
class Used:
    """The tokens of one answer. `input` is without those of the cache, `output` with those of `reasoning`."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


class Cache:
    """The prompts that the server has seen, as prefixes of their blocks."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def look(self, blocks: Sequence[str], marked: int) -> tuple[int, int]:
        """The tokens read from the cache and written to it; the first `marked` blocks may be cached."""
        read = written = 0
        prefix = hash(())
        for block in blocks[:marked]:
            prefix = hash((prefix, block))
            if prefix in self._seen and not written:
                read += tokens(block)
            else:
                written += tokens(block)
                self._seen.add(prefix)
        return read, written
