"""Who may serve a data folder, from what its lease says: the decisions of `lease.py`, which reads and writes it.

Pure: facts in, decision out. Times are seconds on the clock since the machine's start (`since_boot`) of who decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from shared_schema.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, see `lease.py`; what a mount may be late by (`mount_verdict.QUICK`) lies between `limit` and `wait`."""

    renew: float = 2.0
    limit: float = 10.0
    wait: float = 15.0


@dataclass(frozen=True, slots=True)
class Holder:
    """What the file of a lease says. `here` is where the kernel's lock reaches; `beat` changes with every renewal."""

    machine: str
    process: int
    here: str
    beat: int = 0
    is_over: bool = False

    def __str__(self) -> str:
        return f"process {self.process} on {self.machine}"


def is_sure(now: float, renewed: float, timing: Timing) -> bool:
    """Whether the holder is sure to be the only host; `renewed` is when its last renewal that succeeded began."""
    return now - renewed <= timing.limit


def renewed_since(began: float, ended: float, renewed: float, timing: Timing) -> float | None:
    """Since when the lease counts as renewed, after a renewal that began and ended then; None: it had run out before.

    A renewal that ends too late revives nothing. The host that waits has its silence complete by then, or sees it late:
    it takes the folder, while this one, which believes its own renewal, would go on until the next.
    """
    return began if is_sure(ended, renewed, timing) else None


def is_superseded(number: int, numbers: Iterable[int]) -> bool:
    """Whether another host has taken the folder over from the holder of `number`."""
    return max(numbers, default=0) > number


def is_free(number: int, last: Holder | None, at: str, *, is_locked: bool) -> bool:
    """Whether the lease can be taken without waiting; `number` is the highest there is, 0 for none.

    `is_locked`: this process has the kernel's lock, which says something of a holder at the same place `at` alone.
    """
    if number == 0:
        return True
    return last is not None and (last.is_over or (is_locked and last.here == at))


class HolderStanding(StrEnum):
    """What is known of the holder that a host waits for."""

    UNSURE = "unsure"
    FREE = "free"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Silence:
    """A host waits whether the holder renews: what the lease said when it began to wait, and when that was."""

    number: int
    last: Holder | None
    began: float
    timing: Timing

    def standing(self, now: float, number: int, holder: Holder | None) -> HolderStanding:
        """What follows from what the lease says now."""
        if (number, holder) != (self.number, self.last):
            return HolderStanding.FREE if holder is not None and holder.is_over else HolderStanding.HELD
        return HolderStanding.FREE if now >= self.began + self.timing.wait else HolderStanding.UNSURE
