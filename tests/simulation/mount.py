"""The mount that is played: files as they were at each moment, of which every machine sees what its lag allows.

What is relied on (docs/cluster.md) it keeps: names are made exclusively, a listing is not old, and a file that is
opened afresh is read as it was a moment ago (`mount_verdict.QUICK`), and never backwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

from host.lease_rules import Holder
from shared_schema.rows import Ack, MessageOut, Turn
from tests.simulation.timeline import Machine, Timeline

T = TypeVar("T")

_NUMBERS = count(1)  # as of inodes


class Versions(Generic[T]):
    """One file, written whole each time."""

    def __init__(self, timeline: Timeline, value: T) -> None:
        self._timeline = timeline
        self._versions: list[tuple[float, Machine | None, T]] = [(float("-inf"), None, value)]

    @property
    def newest(self) -> T:
        """As it is on the server."""
        return self._versions[-1][2]

    def seen(self, machine: Machine) -> T:
        """As a machine sees it that opens it afresh. A machine sees what it wrote itself at once."""
        for when, writer, value in reversed(self._versions):
            if writer is machine or when <= self._timeline.now - machine.mount_lag:
                return value
        raise AssertionError("a file has a first version")

    def put(self, machine: Machine, value: T) -> None:
        """Write it."""
        old = self._timeline.now - 1.0
        while len(self._versions) > 1 and self._versions[1][0] < old:
            del self._versions[0]
        self._versions.append((self._timeline.now, machine, value))


@dataclass(frozen=True)
class Inbound:
    """`inbound.db`: the number of the present run, and messages with their status."""

    run: int = 0
    generation: int = 1
    messages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outbound:
    """`outbound.db`: who took it over last, and what it holds. `runs` are the runs that made the turns."""

    taken_by: int | None = None
    commits: int = 0
    rows: tuple[MessageOut, ...] = ()
    acks: Mapping[str, Ack] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
    runs: Mapping[str, int | None] = field(default_factory=dict)


class Out:
    """One `out/` folder, as an agent's container has it for good, whatever becomes of its name."""

    def __init__(self, timeline: Timeline, content: Outbound) -> None:
        self.outbound = Versions(timeline, content)
        self.heartbeat = Versions(timeline, 0)
        self.number = next(_NUMBERS)
        self.highest_run = 0  # that has committed here: what must never go back


class SessionFiles:
    """One session's folder."""

    def __init__(self, timeline: Timeline) -> None:
        self.inbound = Versions(timeline, Inbound())
        self.out = Out(timeline, Outbound())


class LeaseFolder:
    """`<data>/lease/`: files by their number."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._files: dict[int, Versions[Holder | None]] = {}

    def numbers(self) -> list[int]:
        return list(self._files)

    def newest(self, machine: Machine) -> tuple[int, Holder | None]:
        number = max(self._files, default=0)
        return number, None if number == 0 else self._files[number].seen(machine)

    def make(self, machine: Machine, number: int, holder: Holder) -> None:
        """Make a file that is not there. Raises `FileExistsError`."""
        if number in self._files:
            raise FileExistsError(number)
        self._files[number] = Versions(self._timeline, None)
        self._files[number].put(machine, holder)

    def renew(self, machine: Machine, number: int, holder: Holder) -> None:
        self._files.setdefault(number, Versions(self._timeline, None)).put(machine, holder)
