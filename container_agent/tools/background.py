"""Background processes of one agent: they go on between its turns, until they end, are stopped, or the agent goes.

Invariants:
- nothing of a process outlives the agent, however that dies (`program.py`);
- what is kept of the output is bounded, and so is the number of processes;
- the session's file says which processes there are before `start` returns, and how one ended soon after its end: from
  it the host knows that the agent is not to be stopped as idle, and whom an end wakes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from time import monotonic

from container_agent.tools.program import Program
from container_agent.tools.tool import ToolRefused
from shared_schema import background
from shared_schema.background import LONGEST_COMMAND, LONGEST_OUTPUT, MOST_KEPT, MOST_RUNNING, BackgroundProcess
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileTrouble
from shared_schema.text import one_line

log = logging.getLogger("container_agent")

KEPT_BYTES = 256 * 1024
"""Of the output of one process; the older part goes."""
_ENDING_SECONDS = 5.0  # for the killing of one process; it takes milliseconds on a machine that is not busy
_RETRY_SECONDS = 1.0  # for a file that cannot be written at the moment


@dataclass(slots=True)
class OutputTail:
    """The end of what a process printed, with how much there was in all."""

    data: bytearray = field(default_factory=bytearray)
    total: int = 0

    def add(self, data: bytes) -> None:
        """Take what came next."""
        self.total += len(data)
        self.data += data
        if len(self.data) > 2 * KEPT_BYTES:  # not with each piece: what is moved is paid for by what has come
            del self.data[:-KEPT_BYTES]

    def since(self, place: int) -> tuple[bytes, int]:
        """What was printed from a place on, and how much of that is not kept any more."""
        kept = self.data[-KEPT_BYTES:]
        first = self.total - len(kept)
        return bytes(kept[max(0, place - first) :]), max(0, first - place)


@dataclass(slots=True)
class _Process:
    said: BackgroundProcess
    program: Program
    output: OutputTail
    began: float
    read_to: int = 0
    is_stopped: bool = False
    watching: asyncio.Task[None] | None = None


class BackgroundProcesses:
    """The processes of an agent. `note` writes the value that says which there are; it may raise `FileTrouble`."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._processes: dict[str, _Process] = {}  # by name, the oldest first

    async def start(
        self, command: str, folder: Path, environment: Mapping[str, str], *, name: str | None, wakes: bool
    ) -> str:
        """Start a command; what it is called. Raises `ToolRefused`."""
        if sum(1 for each in self._processes.values() if each.said.is_running) >= MOST_RUNNING:
            raise ToolRefused(f"{MOST_RUNNING} processes run already", hint="stop one with `stop_process`")
        called = name or self._free_name()
        if not background.is_name(called):
            raise ToolRefused(f"'{called[:50]}' cannot be a name", hint="use a-z, 0-9, '-' and '_'")
        if called in self._processes and self._processes[called].said.is_running:
            raise ToolRefused(f"a process '{called}' runs already", hint="stop it, or choose another name")
        output = OutputTail()
        shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
        try:
            program = Program([shell, "-c", command], folder, environment, output.add)
        except OSError as error:
            raise ToolRefused(f"the command cannot be started: {(error.strerror or 'unknown').lower()}") from error
        said = BackgroundProcess(secrets.token_hex(8), called, one_line(command, LONGEST_COMMAND), wakes)
        process = _Process(said, program, output, monotonic())
        self._processes.pop(called, None)
        self._processes[called] = process
        try:
            self._note(self._value())
        except FileTrouble as error:
            # A process that the host knows nothing of would be ended with an idle agent, without a word.
            del self._processes[called]
            await program.end(_ENDING_SECONDS)
            raise ToolRefused("the session's file cannot be written at the moment", hint="try again") from error
        process.watching = asyncio.create_task(self._watch(process), name=f"background process {called}")
        return called

    async def wait_for(self, name: str, seconds: float) -> None:
        """Wait until a process ends, and for so long at most."""
        process = self._named(name)
        if process.watching is not None:
            await asyncio.wait([process.watching], timeout=seconds)

    def listed(self) -> list[str]:
        """A line for each process, the newest first."""
        return [self._line(each) for each in reversed(self._processes.values())]

    def read(self, name: str, *, everything: bool, most: int) -> str:
        """What a process printed since this was asked last, with its state in the first line. Raises `ToolRefused`."""
        process = self._named(name)
        data, lost = process.output.since(0 if everything else process.read_to)
        process.read_to = process.output.total
        if len(data) > most:
            lost += len(data) - most
            data = data[-most:]
        text = data.decode("utf-8", "replace").replace("\0", "\ufffd").rstrip("\n")
        missing = f"[… {lost:,} bytes before this are left out …]" if lost else ""
        return "\n".join(part for part in (self._line(process), missing, text or "[nothing new]") if part)

    async def stop(self, name: str) -> str:
        """End a process with all that it has started. Raises `ToolRefused`."""
        process = self._named(name)
        if not process.said.is_running:
            raise ToolRefused(f"the process '{name}' has ended already: {process.said.ended}")
        process.is_stopped = True
        await process.program.end(_ENDING_SECONDS)
        await self.wait_for(name, _RETRY_SECONDS)
        return self._line(process)

    async def close(self) -> None:
        """The agent goes: end all of them. The host knows from the file which ran until now."""
        watching = [each.watching for each in self._processes.values() if each.watching is not None]
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        for each in self._processes.values():
            each.program.kill()
        await asyncio.gather(*(each.program.end() for each in self._processes.values() if each.said.is_running))

    @property
    def are_gone(self) -> bool:
        """Whether nothing of any of them is left."""
        return all(each.program.is_gone for each in self._processes.values())

    async def _watch(self, process: _Process) -> None:
        """Wait for the end of a command, end what it has left, and say so in the file."""
        await process.program.over.wait()
        await process.program.end(_ENDING_SECONDS)
        said = process.said
        tail, _ = process.output.since(process.output.total - LONGEST_OUTPUT)
        process.said = BackgroundProcess(
            said.key,
            said.name,
            said.command,
            said.wakes and not process.is_stopped,
            _ended(process),
            tail.decode("utf-8", "replace").replace("\0", "\ufffd").strip(),
        )
        while True:
            try:
                self._note(self._value())
                return
            except FileTrouble as error:  # the host reads or writes at this moment
                log.warning("the end of a background process cannot be noted yet: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)

    def _value(self) -> str:
        """What the file is to say; processes that are over are forgotten when there are too many, the oldest first."""
        over = [name for name, each in self._processes.items() if not each.said.is_running]
        for name in over[: max(0, len(self._processes) - MOST_KEPT)]:
            del self._processes[name]
        return background.stored(each.said for each in self._processes.values())

    def _named(self, name: str) -> _Process:
        process = self._processes.get(name)
        if process is None:
            raise ToolRefused(f"there is no process '{name[:50]}'", hint="`list_processes` shows them")
        return process

    def _free_name(self) -> str:
        return next(name for number in range(1, 10_000) if (name := f"p{number}") not in self._processes)

    def _line(self, process: _Process) -> str:
        said = process.said
        seconds = int(monotonic() - process.began)
        state = f"has run for {seconds} s" if said.is_running else said.ended
        return f"{said.name}: {state} ({process.output.total:,} bytes of output): {said.command}"


def _ended(process: _Process) -> str:
    status = process.program.status
    if process.is_stopped:
        return "stopped"
    if status is None:
        return "broke off"
    return f"ended by signal {-status}" if status < 0 else f"ended with exit status {status}"
