"""One command, and all that it starts, beneath a subreaper (`subreaper.py`) of its own.

Invariants: nothing of it outlives `end`, or the agent, however that dies; making one holds no descriptor when it
fails. The subreaper ends it, so a caller need not wait for the end.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from shared_schema import processes

_SOURCES = Path(__file__).resolve().parents[2]
_SUBREAPER = (
    "import sys; sys.path.insert(0, sys.argv[1]); from container_agent.tools.subreaper import run; "
    "run(int(sys.argv[2]), sys.argv[3:])"
)
_MARK = "DUMBWAITER_TOOL_CALL"
_CHUNK = 64 * 1024
_ENDING_SECONDS = 0.5  # a turn that was cancelled has a second to end


class Program:
    """A command that runs. `take` gets what it prints, as it comes. Raises `OSError` when it cannot be started.

    Made and used within a running event loop. It goes on until `kill` or `end`.
    """

    def __init__(
        self, command: list[str], folder: Path, environment: Mapping[str, str], take: Callable[[bytes], None]
    ) -> None:
        self.over = asyncio.Event()
        """Set when the command has ended; what it has started may go on."""
        self.status: int | None = None
        """Its exit status, -n for signal n; None while it runs, and when its subreaper was killed."""
        self._mark = secrets.token_hex(8)
        self._said = b""
        ours, theirs = os.pipe()
        try:
            self._subreaper = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-c", _SUBREAPER, str(_SOURCES), str(theirs), *command],
                cwd=folder,
                env={**environment, _MARK: self._mark},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        assert self._subreaper.stdin is not None
        assert self._subreaper.stdout is not None
        self._hold = self._subreaper.stdin
        self.output = Pipe(os.fdopen(ours, "rb", 0), take)
        self._kept = Pipe(self._subreaper.stdout, self._hear, self._bury)

    def kill(self) -> None:
        """Have all of it killed, without waiting for it."""
        with suppress(BrokenPipeError):
            self._hold.close()

    @property
    def is_gone(self) -> bool:
        """Whether nothing of it is left, as far as its subreaper knew."""
        return self._kept.closed.is_set()

    async def end(self, seconds: float = _ENDING_SECONDS) -> None:
        """Have all of it killed. Waits until it is gone, but not longer than that."""
        self.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._kept.closed.wait()
        if self._subreaper.returncode or not self.is_gone:  # it was killed, or stopped: it ends nothing
            await asyncio.to_thread(processes.end_marked, _MARK, self._mark)
        self.output.close()

    def _hear(self, data: bytes) -> None:
        self._said += data
        if self._said.endswith(b"\n"):
            self.status = int(self._said)
            self.over.set()

    def _bury(self) -> None:
        """The subreaper leaves: it has closed its output, and is gone in a moment."""
        self._subreaper.wait()
        self.over.set()


class Pipe:
    """Reads a pipe as it fills, until its end or `close`."""

    def __init__(
        self, pipe: IO[bytes], take: Callable[[bytes], None], at_end: Callable[[], None] | None = None
    ) -> None:
        self.closed = asyncio.Event()
        self._pipe = pipe
        self._take = take
        self._at_end = at_end
        os.set_blocking(pipe.fileno(), False)
        asyncio.get_running_loop().add_reader(pipe, self._read)

    def close(self) -> None:
        """Read no more."""
        if not self.closed.is_set():
            asyncio.get_running_loop().remove_reader(self._pipe)
            self._pipe.close()
            self.closed.set()

    def _read(self) -> None:
        try:
            data = os.read(self._pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return
        if data:
            self._take(data)
            return
        self.close()
        if self._at_end is not None:
            self._at_end()
