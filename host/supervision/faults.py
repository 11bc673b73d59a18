"""Sessions that cannot be reconciled at the moment: why, and since when. In memory; a new host finds out anew.

A fault is what reconciling raised: a file that cannot be opened, a folder whose owner is wrong, an error of the system
that was not foreseen. Each cause of it is logged once, and it is tried again, less and less often. After
`fault_seconds` it counts as lasting: what waits in the session fails with the cause, and so does what comes later,
until the fault is over.
"""

from __future__ import annotations

import logging
from dataclasses import field
from pathlib import Path

from host.backoff import Backoff
from host.runtime.protocol import RuntimeUnavailable
from host.supervision.decide import SupervisionLimits
from shared_schema.clock import Clock, to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError, FileTrouble
from shared_schema.system_errors import words_of

log = logging.getLogger(__name__)

_BACKOFF = Backoff(0.5, 30.0)
_MAX_CAUSE = 300


@dataclass(slots=True)
class Fault:
    """`since` is UTC text, `began` the same on the monotonic clock; `cause` is a sentence without its full stop.

    After `patience` seconds it counts as lasting.
    """

    session_id: str
    since: str
    began: float
    cause: str
    patience: float
    attempts: int = 1
    logged: set[str] = field(default_factory=set)


class Faults:
    """The faults of all sessions, by session."""

    def __init__(self, clock: Clock, limits: SupervisionLimits) -> None:
        self._clock = clock
        self._limits = limits
        self._faults: dict[str, Fault] = {}

    def note(self, session_id: str, error: Exception) -> Fault:
        """Reconciling failed. Logged when the cause is a new one, with a traceback when it was not foreseen.

        Two causes may take turns, as when an agent's read and the host's write fail on the same missing folder.
        """
        cause = cause_of(error)
        fault = self._faults.get(session_id)
        if fault is None:
            now = self._clock
            fault = self._faults[session_id] = Fault(session_id, to_text(now.now()), now.monotonic(), "", 0.0)
        else:
            fault.attempts += 1
        is_of_engine = isinstance(error, RuntimeUnavailable)  # which may be updated, and comes back
        fault.patience = self._limits.engine_seconds if is_of_engine else self._limits.fault_seconds
        fault.cause = cause
        if cause not in fault.logged:
            fault.logged.add(cause)
            log.error(
                "a session could not be reconciled",
                extra={"session_id": session_id, "error": str(error)},
                exc_info=None if isinstance(error, DumbwaiterError) else error,
            )
        return fault

    def over(self, session_id: str) -> None:
        """Reconciling succeeded."""
        fault = self._faults.pop(session_id, None)
        if fault is not None:
            lasted = round(self._clock.monotonic() - fault.began, 1)
            log.info(
                "a session can be reconciled again",
                extra={"session_id": session_id, "seconds": lasted, "attempts": fault.attempts, "error": fault.cause},
            )

    def forget(self, session_id: str) -> None:
        """The session is gone."""
        self._faults.pop(session_id, None)

    def of(self, session_id: str) -> Fault | None:
        """The fault of a session, if it has one."""
        return self._faults.get(session_id)

    def is_lasting(self, fault: Fault) -> bool:
        """Whether it is not waited for any more: what waits fails."""
        return self._clock.monotonic() - fault.began >= fault.patience

    def retry_in(self, fault: Fault) -> float:
        """Seconds until the next reconcile: longer each time, and not past the moment at which the fault is lasting."""
        wait = _BACKOFF.after(fault.attempts)
        left = fault.began + fault.patience - self._clock.monotonic()
        return min(wait, left) if left > 0 else wait

    def all(self) -> list[Fault]:
        """All of them, the oldest first."""
        return sorted(self._faults.values(), key=lambda fault: fault.began)


def cause_of(error: Exception) -> str:
    """Why it failed, in words for the person whose message failed; no paths but the file's own name."""
    if isinstance(error, FileTrouble | OSError):
        return f"the session's files cannot be used: {_of_file(error)}"[:_MAX_CAUSE]
    if isinstance(error, DumbwaiterError):
        return error.what[:_MAX_CAUSE]
    first = (str(error).splitlines() or [""])[0]
    what = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return f"the host met an error it does not know ({what}), see its log"[:_MAX_CAUSE]


def _of_file(error: FileTrouble | OSError) -> str:
    if isinstance(error, FileTrouble):
        what, where = error.what, error.where
    else:
        what, where = words_of(error), error.filename
        if isinstance(error, FileExistsError | NotADirectoryError):
            what = "a file is where a folder should be"
    return what if not isinstance(where, str | Path) else f"{what} ({Path(where).name})"
