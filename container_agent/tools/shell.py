"""The tool `bash`: one command in the workspace, as a process group of its own.

Invariant: when the call is over by its time limit or by cancellation, so is every process that it has started. Those
that have left the group are found by a variable in their environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Mapping
from pathlib import Path

from container_agent.tools.environment import for_programs
from container_agent.tools.schema import form, number, text
from container_agent.tools.tool import MAX_CHARACTERS, Arguments, Tool, ToolRefused

_MARK = "DUMBWAITER_TOOL_CALL"
_CHUNK = 64 * 1024
_ENDING_SECONDS = 3.0  # for the killing, before the tool's own limit
_LEFTOVER_SECONDS = 0.3  # for output after the command is over, which a program in the background may hold open
_ROUNDS = 20
_DEFAULT_SECONDS, _MAX_SECONDS = 120, 1800


def tool(workspace: Path, environment: Mapping[str, str]) -> Tool:
    """The tool. `environment` is the agent's own; programs get what they may have of it."""
    allowed = for_programs(environment)

    async def run(arguments: Arguments) -> str:
        return await _run(arguments["command"], arguments["seconds"], workspace, allowed)

    return Tool(
        "bash",
        "Run a shell command in the workspace; standard output and standard error come back together. There is no "
        "terminal and no input. What runs longer than `seconds` is killed with all it has started.",
        form(
            {"command": text("The command.", 100_000)},
            {"seconds": number("How long it may take.", 1, _MAX_SECONDS, _DEFAULT_SECONDS)},
        ),
        run,
        seconds_of=lambda arguments: arguments["seconds"] + _ENDING_SECONDS,
    )


class Excerpt:
    """The beginning and the end of a stream of bytes, in bounded memory."""

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._left_out = 0

    def add(self, data: bytes) -> None:
        """Take what came next."""
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:] if room > 0 else data
        surplus = len(self._tail) - self._half
        if surplus > 0:
            self._left_out += surplus
            del self._tail[:surplus]

    def text(self) -> str:
        """What is kept, with a note of what is not."""
        note = f"\n[… {self._left_out:,} bytes left out …]\n".encode() if self._left_out else b""
        return (bytes(self._head) + note + bytes(self._tail)).decode("utf-8", "replace").replace("\0", "\ufffd")


async def _run(command: str, seconds: float, workspace: Path, environment: Mapping[str, str]) -> str:
    mark = secrets.token_hex(8)
    excerpt = Excerpt(MAX_CHARACTERS - 200)
    ours, theirs = os.pipe()  # our own: a pipe of asyncio's is waited for until every program has let go of it
    try:
        process = await asyncio.create_subprocess_exec(
            "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh",
            "-c",
            command,
            cwd=workspace,
            env={**environment, _MARK: mark},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=theirs,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        os.close(ours)
        raise ToolRefused(f"the command cannot be started: {(error.strerror or 'unknown').lower()}") from error
    finally:
        os.close(theirs)
    reading = asyncio.create_task(_collect(ours, excerpt))
    ended = ""
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
        ended = "" if process.returncode == 0 else _status(process.returncode)
        await asyncio.wait({reading}, timeout=_LEFTOVER_SECONDS)
    except TimeoutError:
        await _kill(process, mark)
        await asyncio.wait({reading}, timeout=_LEFTOVER_SECONDS)
        ended = f"[killed after {seconds:g} seconds]"
    except BaseException:
        await asyncio.shield(_kill(process, mark))
        raise
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
    said = excerpt.text()
    return "\n".join(part for part in (said.rstrip("\n"), ended) if part) or "[no output]"


async def _collect(pipe: int, excerpt: Excerpt) -> None:
    """Read a pipe until its end or until cancelled, and close it."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(pipe, "rb", 0))
    try:
        while data := await reader.read(_CHUNK):
            excerpt.add(data)
    finally:
        transport.close()


def _status(code: int | None) -> str:
    if code is not None and code < 0:
        return f"[ended by signal {-code}]"
    return f"[exit status {code}]"


async def _kill(process: asyncio.subprocess.Process, mark: str) -> None:
    """Kill the group, then what has left it, until nothing is left."""
    for _ in range(_ROUNDS):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        found = await asyncio.to_thread(_marked, f"{_MARK}={mark}".encode())
        for identity in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(identity, signal.SIGKILL)
        if not found:
            break
        await asyncio.sleep(0.01)
    await process.wait()


def _marked(variable: bytes) -> list[int]:
    """The processes with that variable in their environment, which go on: not those that are only not yet buried."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found
