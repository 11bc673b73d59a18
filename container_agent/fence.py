"""The fence of a run: a process that is not the present run of its session writes nothing more, and ends.

Each run of an agent has a number that only grows. The host writes the number of the present run into `session_context`
before it starts the agent, and gives the agent its own. A process that was frozen, or whose machine was cut off, may
wake while a later run works: it finds another number there than its own.

The number is looked at with every read of `inbound.db`, with every heartbeat, and before a write and before its commit
when the last look was more than `FRESH_SECONDS` ago. Where the file system has locks, the file itself closes what that
leaves open: it says which run took it over last (`outbox.py`), and that is asked inside of every transaction. Where it
has none, the host gives an earlier run of which it does not know the end that much time, and what the mount is late by,
before it starts the next one (`host/supervision/runs.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from shared_schema.clock import since_boot
from shared_schema.database import reader
from shared_schema.errors import DumbwaiterError, FileTrouble
from shared_schema.late_mount import FRESH_SECONDS, unchanged

LATE_SECONDS = 5.0
"""How late a mount may show a new run its own number; usable ones take a tenth of that."""
_STEP_SECONDS = 0.05
_BUSY_SECONDS = 0.25
RUN = "SELECT value FROM session_context WHERE key = 'run'"


class Superseded(DumbwaiterError):
    """The session has another run than this one."""


class Fence:
    """The number of this run, and where the host says which run is the present one.

    `run` None: the host gives its runs no numbers (an older version, or none at all), and nothing is compared.
    """

    def __init__(
        self,
        inbound: Path,
        run: int | None,
        clock: Callable[[], float] = since_boot,
        *,
        shared: bool = False,
    ) -> None:
        self._shared = shared
        self.run = run
        self._inbound = inbound
        self._clock = clock
        self._seen = float("-inf")
        self._superseded = False

    def begin(self) -> None:
        """The first look. Raises `Superseded`.

        A mount that shows changes late may show what stood there before this run was begun: that is waited for.
        """
        if self.run is None:
            return
        end = self._clock() + LATE_SECONDS
        while is_earlier(present := self._present(), self.run) and self._shared and self._clock() < end:
            time.sleep(_STEP_SECONDS)
        self._compare(present)

    def require(self, present: str | int | None) -> None:
        """Compare with what was just read. Raises `Superseded`, from then on always."""
        if self.run is not None and present is not None and str(present) != str(self.run):
            self._superseded = True
        self.require_unbroken(present)
        self._seen = self._clock()

    def require_fresh(self) -> None:
        """Look again where the last look is too long ago. A file that cannot be read now is looked at the next time.

        Raises `Superseded`.
        """
        self.require_unbroken(None)
        if self.run is None or self._clock() - self._seen < FRESH_SECONDS:
            return
        self.look()

    def look(self) -> None:
        """Look now. Raises `Superseded`."""
        if self.run is not None:
            self._compare(self._present())

    def _compare(self, present: str | None) -> None:
        if present is None:
            self.require_unbroken(None)
            return
        self.require(present)

    def _present(self) -> str | None:
        """The number of the present run; None where the file says none, or cannot be read now."""
        try:
            still = unchanged(self._inbound.parent, self._inbound.name) if self._shared else nullcontext()
            with still, reader(self._inbound, busy_seconds=_BUSY_SECONDS) as connection:
                row = connection.execute(RUN).fetchone()
        except FileTrouble:
            return None
        return None if row is None else str(row["value"])

    def require_unbroken(self, present: object) -> None:
        """Raises `Superseded` once another run was seen."""
        if self._superseded:
            other = "another one" if present is None else f"run {present}"
            raise Superseded(f"this is run {self.run} of the session, and {other} has taken its place")


def is_earlier(present: str | int | None, run: int | None) -> bool:
    """Whether what a file says is the number of an earlier run than `run`. Pure.

    Numbers only grow, so the run that sees it for the first time sees an old state of the file, or that of a backup
    which was restored: the second one stays.
    """
    return run is not None and str(present).isdecimal() and int(str(present)) < run


def has_taken_over(run: int | None, recorded: object) -> bool:
    """Whether a run may commit to a file that says that `recorded` took it over last. Pure.

    `run` None is as in `Fence`.
    """
    return run is None or str(recorded) == str(run)


def no_fence() -> Fence:
    """A fence that lets everything pass, for a session without a host."""
    return Fence(Path(), None)
