"""Kills the process it runs in, just before a line of the product. The product knows nothing of it.

    python -m tests.support.failpoint host ARGUMENTS…    the command `dumbwaiter`
    python -m tests.support.failpoint agent              `python -m container_agent`
    python -m tests.support.failpoint platform DATA      the host of failpoint_platform.py

A tracer sees every line of the modules on a message's path, and of no others. The plan lies in the working folder and
may be put there at any time (`failpoints.py` writes it). Whoever kills itself removes it first: of several processes
with one plan, one dies, and leaves a note of where. With `passing` 0 nobody dies, and each process leaves the number of
lines it passed.

Standard library only, like the agent.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import threading
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

PLAN = "failpoint.json"
PASSED = "passed-*.count"
DIED = "died.txt"

_AGENT = ("container_agent", "shared_schema.migrate")
_HOST = (
    "host.access",
    "host.agents",
    "host.central",
    "host.channels",
    "host.delivery",
    "host.dispatcher",
    "host.operations.approvals",
    "host.operations.command",
    "host.operations.delegate",
    "host.operations.session_transitions",
    "host.operations.session_stop",
    "host.operations.session_change",
    "host.routing",
    "host.schedules",
    "host.runtime.process",
    "host.services",
    "host.sessions",
    "host.supervision",
    "shared_schema.migrate",
)
# What to import before the tracer begins, because that is slow under it; what to call; the modules it sees.
_PROGRAMS = {
    "host": ("host.daemon", "host.cli", _HOST),
    "agent": ("container_agent.loop", "container_agent.__main__", _AGENT),
    "platform": ("host.daemon", "tests.support.failpoint_platform", _HOST),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Die before the line is passed for that time; without a line, before the so-many-th of all lines."""

    passing: int
    module: str | None = None
    line: int | None = None

    def covers(self, frame: FrameType) -> bool:
        """Whether a frame is at the line."""
        return self.line is None or (self.line == frame.f_lineno and self.module == frame.f_globals["__name__"])


class Tracer:
    """Follows a process from here on, in every thread that is started later too."""

    def __init__(self, folder: Path, watched: tuple[str, ...]) -> None:
        self._path = folder / PLAN
        self._watched = watched
        self._is_watched: dict[str, bool] = {}
        self._stamp = (0, 0)
        self._plan: Plan | None = None
        self._passed = 0

    def install(self) -> None:
        """Begin."""
        atexit.register(self._leave_count)
        threading.settrace(self._call)
        sys.settrace(self._call)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_globals.get("__name__", "")
        if name not in self._is_watched:
            self._is_watched[name] = name.startswith(self._watched)
        return self._line if self._is_watched[name] else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and (plan := self._current()) is not None and plan.covers(frame):
            self._passed += 1
            if self._passed == plan.passing:
                self._die(f"{frame.f_code.co_filename}:{frame.f_lineno}, {frame.f_code.co_qualname}")
        return self._line

    def _current(self) -> Plan | None:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return None
        if self._stamp != (status.st_ino, status.st_mtime_ns):
            self._stamp = (status.st_ino, status.st_mtime_ns)
            self._plan = Plan(**json.loads(self._path.read_text()))
            self._passed = 0
        return self._plan

    def _die(self, where: str) -> None:
        try:
            self._path.unlink()
        except FileNotFoundError:  # another process was quicker
            return
        self._path.with_name(DIED).write_text(where)
        os.kill(os.getpid(), signal.SIGKILL)

    def _leave_count(self) -> None:
        if self._plan is not None and self._plan.passing == 0:
            self._path.with_name(PASSED.replace("*", str(os.getpid()))).write_text(str(self._passed))


def main() -> None:
    """Run a program under the tracer."""
    first, program, watched = _PROGRAMS[sys.argv[1]]
    sys.argv = ["dumbwaiter", *sys.argv[2:]]
    import_module(first)
    run = import_module(program).main
    Tracer(Path.cwd(), watched).install()
    sys.exit(run())


if __name__ == "__main__":
    main()
