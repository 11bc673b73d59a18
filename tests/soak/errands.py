"""What people ask of agents, and what an agent that finishes its turn answers.

They are words of the provider `scripted`, and for the real providers of the fake model service.
"""

from __future__ import annotations

import random
from dataclasses import KW_ONLY, dataclass, field

from tests.soak.plan import DESTINATION


@dataclass(frozen=True, slots=True)
class Errand:
    """A message. `replies` are what one completed turn over it writes, in order; None: no turn over it completes."""

    text: str
    replies: tuple[str, ...] | None
    _: KW_ONLY
    shares_turn: bool = False  # a turn may answer several messages at once, with the answer to one of them
    files: dict[str, str] = field(default_factory=dict)


_USUAL: list[tuple[float, str, tuple[str, ...]]] = [
    (8, "reply 3 part", ("part 1", "part 2", "part 3")),
    (8, "stream 3 0.05", ("stream 1", "stream 2", "stream 3")),
    (3, "stream 8 0.2", tuple(f"stream {number}" for number in range(1, 9))),
    (8, "think 0.3", ("thought for 0.3 s",)),
    (5, "tool hammer 0.3", ("hammer is done",)),
    (5, "attach note.txt 3000", ("attached note.txt",)),
    (4, "steps 4\nuse 100\nreply 1 done", ("done 1",)),
    (3, "to nowhere who is there\nreply 1 asked", ("who is there", "asked 1")),
    (3, f"to {DESTINATION} ring\nreply 1 rang", ("ring", "rang 1")),
    (1, "bad-row", ("wrote 10 bad rows",)),
]
_FAILING: list[tuple[float, str]] = [
    (4, "fail no luck today"),
    (2, "raise oh"),
    (1.5, "crash"),
    (1, "exit"),
    (1, "kill-mid-commit"),
    (0.7, "hang"),
    (0.7, "stall"),
]
_PLAIN = 45.0
_FILES_SHARE = 0.06


def draw(source: random.Random, number: int, provider: str = "scripted") -> Errand:
    """A random errand; `number` makes the plain ones differ."""
    if provider != "scripted":
        return _of_model(source, number, provider)
    choices = [(weight, Errand(text, replies)) for weight, text, replies in _USUAL]
    choices += [(weight, Errand(text, None)) for weight, text in _FAILING]
    choices.append((_PLAIN, _plain(source, number)))
    (errand,) = source.choices([errand for _, errand in choices], [weight for weight, _ in choices])
    return errand


def _of_model(source: random.Random, number: int, provider: str) -> Errand:
    """What a model says at once, slowly, or after a tool; none of it fails by itself."""
    words = f"answer {number} " + "and so on " * 8
    tool = "Read" if provider == "claude" else "list_files"
    arguments = '{"file_path": "/nowhere"}' if provider == "claude" else "{}"
    text, said = source.choice(
        (
            (f"say answer {number}", f"answer {number}"),
            (f"stream 20 0.2 {words.strip()}", words.strip()),
            (f"stream 10 0.5 {words.strip()}", words.strip()),
            (f"call {tool} {arguments}\nthen\nstream 8 0.3 {words.strip()}", words.strip()),
        )
    )
    return Errand(text, (said,), shares_turn=True)


def _plain(source: random.Random, number: int) -> Errand:
    files = {}
    if source.random() < _FILES_SHARE:
        files = {f"paper-{sheet}.txt": f"{number}/{sheet} " * source.randint(1, 2000) for sheet in (1, 2)}
    return Errand(f"message {number}", (f"scripted: message {number}",), files=files)
