"""What is fuzzed, and when an input is a finding: one definition for hypothesis and for atheris.

A target drives one reader of the product, the way the product does, with one input. The reader may do its work or say
no with one of the errors it promises (`answers`). Any other exception is a finding, and so is what costs more than c·n:
an input of n bytes may take half a second of the processor and 2 µs for each of its bytes, and raise the peak of the
process's memory by 64 MB and 200 bytes for each. By the clock it is a minute, because other processes may have the
processor.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

SECONDS, SECONDS_A_BYTE = 1.5, 2e-6
MEMORY, MEMORY_A_BYTE = 64 * 1024**2, 200
STUCK_SECONDS = 60.0
_MEMORY = Path("/dev/shm")
_LONGEST_PATCH = 12

Drive = Callable[[Any], None]


class TooSlow(AssertionError):
    """One input took longer than one of its size may, twice."""


class TooLarge(AssertionError):
    """One input took more memory than one of its size may."""


@dataclass(frozen=True, slots=True)
class Target:
    """One reader. `opened` gives what drives it, for as long as its folder is there; `inputs` draws what it is given.

    `known` are inputs that were findings once. With `healthy` examples the reader takes raw bytes, and both tools
    mutate those.
    """

    name: str
    opened: Callable[[Path], AbstractContextManager[Drive]]
    inputs: SearchStrategy[Any]
    answers: tuple[type[Exception], ...]
    known: Sequence[Any] = ()
    healthy: Callable[[], Sequence[bytes]] | None = None


def of_bytes(
    name: str,
    opened: Callable[[Path], AbstractContextManager[Drive]],
    healthy: Callable[[], Sequence[bytes]],
    answers: tuple[type[Exception], ...],
    known: Sequence[bytes] = (),
) -> Target:
    """A target that takes raw bytes: mutations of healthy ones, and some that are nothing but noise."""
    inputs = st.one_of(mutated(healthy), st.binary(max_size=200))
    return Target(name, opened, inputs, answers, known, healthy)


@st.composite
def mutated(draw: DrawFn, healthy: Callable[[], Sequence[bytes]]) -> bytes:
    """A healthy example with some bytes overwritten, put in, taken out or said twice, and perhaps cut off."""
    data = bytearray(draw(st.sampled_from(healthy())))
    places = st.integers(0, 2**20)
    for _ in range(draw(st.integers(0, 6))):
        place = draw(places) % (len(data) + 1)
        match draw(st.sampled_from(("overwrite", "insert", "delete", "repeat"))):
            case "overwrite":
                patch = draw(st.binary(min_size=1, max_size=_LONGEST_PATCH))
                data[place : place + len(patch)] = patch
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=_LONGEST_PATCH))
            case "delete":
                del data[place : place + draw(st.integers(1, 600))]
            case "repeat":
                data[place:place] = data[place : place + draw(st.integers(1, 100))] * draw(st.integers(1, 50))
    if draw(st.integers(0, 9)) == 0:
        del data[draw(places) % (len(data) + 1) :]
    return bytes(data)


def judge(target: Target, drive: Drive, value: Any) -> None:
    """Drive the reader with one input. Raises whatever makes it a finding.

    Slow means slow twice: the first time the garbage collector may have had its turn.
    """
    size, before = size_of(value), _peak()
    for _ in range(2):
        began, worked = time.monotonic(), time.process_time()
        try:
            drive(value)
        except target.answers as error:
            if not str(error):
                raise AssertionError(f"{type(error).__name__} says nothing") from error
        took, used = time.monotonic() - began, time.process_time() - worked
        if (grown := _peak() - before) > MEMORY + MEMORY_A_BYTE * size:
            raise TooLarge(f"{grown / 1024**2:.0f} MB more for {size} bytes")
        if used <= SECONDS + SECONDS_A_BYTE * size and took <= STUCK_SECONDS:
            return
    raise TooSlow(f"{used:.2f} s of processor time, {took:.1f} s by the clock, for {size} bytes")


def size_of(value: Any) -> int:
    """The bytes of an input, about."""
    match value:
        case bytes() | bytearray():
            return len(value)
        case str():
            return len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
        case dict():
            return sum(size_of(key) + size_of(entry) for key, entry in value.items())
        case list() | tuple() | set() | frozenset():
            return sum(map(size_of, value))
        case int():
            return 1 + value.bit_length() // 8
        case _ if hasattr(value, "data"):
            return size_of(value.data)
        case _:
            return 8


def _peak() -> int:
    """The most memory that this process has had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def tool_setup() -> Iterator[Path]:
    """A folder for one target, in memory where there is such a place. Its path is short enough for a socket."""
    place = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
