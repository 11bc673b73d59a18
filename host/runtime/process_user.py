"""As which user a plain process of an agent can run, and with which interpreter.

A host that is root gives its agents a user of their own where that works: the user must reach the interpreter, the
source and the session's folders. Nothing here is a security boundary; that is what containers are for.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

_LOG = logging.getLogger(__name__)
_PROBE_SECONDS = 20.0
_PROBE = "import sys; assert sys.version_info >= (3, 11); import container_agent, shared_schema.database"
SYSTEM_INTERPRETER = "/usr/bin/python3"


def can_reach(path: Path, uid: int, gid: int) -> bool:
    """Whether a user without other groups may use a folder or run a file: `x` on it and on all above it."""
    try:
        resolved = path.resolve(strict=True)
        return all(_may_execute(each.stat(), uid, gid) for each in (resolved, *resolved.parents))
    except OSError:
        return False


def _may_execute(status: os.stat_result, uid: int, gid: int) -> bool:
    shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
    return bool(status.st_mode >> shift & 1)


class ProcessUsers:
    """Finds the interpreter for a user once and remembers it; says once why a user cannot be taken."""

    def __init__(self, source_root: Path, candidates: Sequence[str] = (sys.executable, SYSTEM_INTERPRETER)) -> None:
        self._source_root = source_root
        self._candidates = candidates
        self._found: dict[tuple[int, int], str | None] = {}
        self._warned: set[str] = set()

    def interpreter(self, uid: int, gid: int, folders: Iterable[Path]) -> str | None:
        """The interpreter with which that user can run an agent in these folders; None when it cannot."""
        user = (uid, gid)
        if user not in self._found:
            self._found[user] = next((each for each in self._candidates if self._works(each, uid, gid)), None)
        if self._found[user] is None:
            self._warn(f"uid {uid} can use none of {', '.join(self._candidates)}")
            return None
        for folder in folders:
            if not can_reach(folder, uid, gid):
                self._warn(f"uid {uid} cannot reach the folders of the sessions")
                return None
        return self._found[user]

    def program(self, program: str, uid: int, gid: int, folders: Iterable[Path]) -> str | None:
        """`program`, when that user can run it in these folders; None otherwise."""
        if all(can_reach(path, uid, gid) for path in (Path(program), *folders)):
            return program
        self._warn(f"uid {uid} cannot run '{program}' on the folders of the sessions")
        return None

    def _warn(self, why: str) -> None:
        if why not in self._warned:
            self._warned.add(why)
            _LOG.warning("agents run as the host's own user: %s", why, extra={"action": "process_user"})

    def _works(self, interpreter: str, uid: int, gid: int) -> bool:
        """Whether the interpreter is new enough and finds the agent's code, tried as that user."""
        try:
            probe = subprocess.run(
                [interpreter, "-c", _PROBE],
                env={"PYTHONPATH": str(self._source_root), "PYTHONDONTWRITEBYTECODE": "1"},
                cwd="/",
                user=uid,
                group=gid,
                extra_groups=[],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_PROBE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return False
        return probe.returncode == 0
