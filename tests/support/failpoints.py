"""Points at which a test kills a host or an agent, and a host that can be killed there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from types import CodeType

from tests.support.daemon import Daemon
from tests.support.failpoint import DIED, PASSED, PLAN, Plan
from tests.support.wait import until_sync

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Point:
    """Just before a line of a function: the one line of it that contains `text`, when it is passed for that time.

    A text that is not in exactly one line of the function is an error as soon as the point is made. A line with an
    `await` is passed twice, so its second time is no point.
    """

    name: str
    module: str
    function: str
    text: str
    passing: int = 1

    def __post_init__(self) -> None:
        assert self.line

    def __str__(self) -> str:
        return self.name

    @cached_property
    def line(self) -> int:
        """The number of the line. Raises `LookupError`."""
        source, functions = _functions(self.module)
        where = f"the point '{self.name}' in {self.module}.{self.function}"
        if self.function not in functions:
            raise LookupError(f"{where}: there is no such function")
        numbers = {number for _, _, number in functions[self.function].co_lines() if number is not None}
        found = [number for number in sorted(numbers) if self.text in source[number - 1]]
        if len(found) != 1:
            raise LookupError(f"{where}: {len(found)} lines with '{self.text}'")
        return found[0]

    @property
    def plan(self) -> Plan:
        """To die here."""
        return Plan(self.passing, self.module, self.line)


def arm(folder: Path, plan: Plan) -> None:
    """Have processes that work in a folder die as planned."""
    draft = folder / f"{PLAN}.new"
    draft.write_text(json.dumps(asdict(plan)))
    draft.replace(folder / PLAN)


def disarm(folder: Path) -> None:
    """Whoever has not died, lives."""
    (folder / PLAN).unlink(missing_ok=True)


def is_armed(folder: Path) -> bool:
    """Whether nobody has died yet."""
    return (folder / PLAN).exists()


def died_at(folder: Path) -> str:
    """Where the last one died."""
    return (folder / DIED).read_text()


def passed(folder: Path) -> int:
    """The most lines that a process passed under a plan by which nobody dies."""
    return max(int(file.read_text()) for file in folder.glob(PASSED))


def evenly(lines: int, kills: int) -> list[int]:
    """So many of the lines 1, 2, … `lines`, all over."""
    return [1 + (2 * number + 1) * lines // (2 * kills) for number in range(kills)]


class MortalDaemon(Daemon):
    """A host under the tracer; `program` is one of failpoint.py. Its plan lies beside the data folder."""

    def __init__(self, data: Path, *program: str, **settings: str) -> None:
        super().__init__(data, **settings)
        self._program = program
        self.environment["PYTHONPATH"] = str(ROOT)
        self.folder = data.parent

    def spawn(self) -> None:
        """Start it, and do not wait."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.failpoint", *self._program, str(self.data)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=self.environment,
            )

    def start(self) -> None:
        self.spawn()
        until_sync(self._is_ready, "the host is ready", 90)

    def dies(self, point: object) -> None:
        """Wait until it is killed by its plan."""
        until_sync(self.is_dead, f"'{point}' was passed")
        assert self.process is not None
        assert self.process.returncode == -signal.SIGKILL, self.log.read_text()[-3000:]
        assert not is_armed(self.folder)

    def terminate(self) -> None:
        """SIGTERM, and wait until it has ended."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(30)

    def is_dead(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.process is None or self.process.poll() is not None

    def living(self) -> list[int]:
        """The processes of agents on this data folder, whether the host knows them or not."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._is_agent(pid)]

    def end_agents(self) -> None:
        """SIGKILL to all of them."""
        for pid in self.living():
            os.kill(pid, signal.SIGKILL)

    def _is_agent(self, pid: int) -> bool:
        try:
            return f"DUMBWAITER_SESSION={self.data}/".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False

    def close(self) -> None:
        disarm(self.folder)
        if not self.is_dead():
            self.terminate()
        self.end_agents()


@contextmanager
def mortal(data: Path, *program: str, **settings: str) -> Iterator[MortalDaemon]:
    """A running host under the tracer until the block ends."""
    host = MortalDaemon(data, *program, **settings)
    try:
        host.start()
        yield host
    finally:
        host.close()


@cache
def _functions(module: str) -> tuple[list[str], dict[str, CodeType]]:
    """The lines of a module, and its functions by their qualified names."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise LookupError(f"there is no module {module}")
    source = Path(spec.origin).read_text(encoding="utf-8")
    return source.splitlines(), {code.co_qualname: code for code in _codes(compile(source, spec.origin, "exec"))}


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)
