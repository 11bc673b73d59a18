"""As which user a plain process of an agent can run, and with which interpreter.

A host that is root gives its agents a user of their own where that works: the user must reach the interpreter, the
source and the session's folders. Nothing here is a security boundary; that is what containers are for.
"""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from shared_schema.dataclass import dataclass

_LOG = logging.getLogger(__name__)
_PROBE_SECONDS = 20.0
_PROBE = """
import sys
version, *needed = sys.argv[1:]
assert sys.version_info >= (3, 11) and version in ("", "%d.%d" % sys.version_info[:2])
import container_agent, shared_schema.database
from importlib.util import find_spec
assert all(find_spec(name) is not None for name in needed)
if find_spec("pydantic_core") is not None: import pydantic_core  # compiled: of this version or of none
"""
_LIBRARIES = ("pydantic_ai", "mcp", "claude_agent_sdk")
"""What providers need where agents run, as far as it is installed: the optional dependencies of pyproject.toml."""
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


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that a user can run, and the folder of libraries it is lent, if any."""

    program: str
    packages: Path | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a person should know, and what to type."""

    what: str
    hint: str


def trouble_as_root(source_root: Path, uid: int, folders: Iterable[Path]) -> Trouble | None:
    """For a host that is root: why agents without a container cannot have the user that is meant for them.

    Blocks for some tenths of a second: interpreters are tried.
    """
    if os.geteuid() != 0 or uid == 0:
        return None
    if ProcessUsers(source_root).interpreter(uid, uid, (), quiet=True) is None:
        what = f"AGENTS RUN AS ROOT: uid {uid} can use no Python here that has what the host's has ({sys.executable})"
        hint = "make the environment with one that every user reaches, `make clean && make PYTHON=/usr/bin/python3 run`"
        return Trouble(what, hint)
    for folder in folders:
        if (closed := _closed_to(folder, uid, uid)) is not None:
            place = shlex.quote(str(closed))
            what = f"AGENTS RUN AS ROOT: uid {uid} cannot reach {folder}, because {closed} is closed to it"
            return Trouble(
                what, f"choose a data folder it can reach, such as --data /srv/dumbwaiter, or `chmod o+x {place}`"
            )
    return None


def _closed_to(path: Path, uid: int, gid: int) -> Path | None:
    try:
        resolved = path.resolve(strict=True)
        above = (*reversed(resolved.parents), resolved)
        return next((each for each in above if not _may_execute(each.stat(), uid, gid)), None)
    except OSError:
        return None  # it is not there yet


class ProcessUsers:
    """Finds the interpreter for a user once and remembers it; says once why a user cannot be taken.

    An agent needs what is installed beside the host (the SDKs of its provider). An interpreter of the system's lacks
    that, but takes it from the host's folder of libraries where it is of the same version.
    """

    def __init__(self, source_root: Path, candidates: Sequence[str] = (sys.executable, SYSTEM_INTERPRETER)) -> None:
        self._source_root = source_root
        self._candidates = candidates
        self._found: dict[tuple[int, int], Interpreter | None] = {}
        self._warned: set[str] = set()

    def interpreter(self, uid: int, gid: int, folders: Iterable[Path], *, quiet: bool = False) -> Interpreter | None:
        """The interpreter with which that user can run an agent in these folders; None when it cannot."""
        for folder in folders:  # first: to look is cheap, and to try interpreters takes tenths of a second
            if not can_reach(folder, uid, gid):
                self._warn(f"uid {uid} cannot reach the folders of the sessions")
                return None
        user = (uid, gid)
        if user not in self._found:
            packages = Path(sysconfig.get_path("purelib"))
            tried = [Interpreter(each, lent) for each in self._candidates for lent in (None, packages)]
            self._found[user] = next((each for each in tried if self._works(each, uid, gid)), None)
        if self._found[user] is None and not quiet:
            self._warn(f"uid {uid} can use none of {', '.join(self._candidates)} with what the host's has")
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

    def _works(self, interpreter: Interpreter, uid: int, gid: int) -> bool:
        """Whether it is new enough and finds the agent's code and what the host's has, tried as that user."""
        needed = [name for name in _LIBRARIES if find_spec(name) is not None]
        version = ".".join(map(str, sys.version_info[:2])) if interpreter.packages is not None else ""
        try:
            probe = subprocess.run(
                [interpreter.program, "-c", _PROBE, version, *needed],
                env={
                    "PYTHONPATH": python_path(self._source_root, interpreter.packages),
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
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


def python_path(source_root: Path, packages: Path | None) -> str:
    """Where an agent's interpreter looks for code."""
    return os.pathsep.join(str(each) for each in (source_root, packages) if each is not None)
