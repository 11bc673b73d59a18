"""Measuring a mount from two machines: this one changes files, the other one says when it saw what.

Everything happens in a folder of its own below the one that is asked about, and is removed afterwards. Blocks.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from host.operations.mount_verdict import Measured
from shared_schema import json_text
from shared_schema.database import open_writer, transaction
from shared_schema.errors import DumbwaiterError, FileTrouble
from shared_schema.system_errors import words_of

OBSERVER = Path(__file__).with_name("mount_observer.py")
WATCH_SECONDS = 20.0
_READY_SECONDS = 60.0
_ROWS = 40
_BETWEEN = 0.05

Observe = Callable[[str, Sequence[str]], str]
"""Runs the observer on the other machine, with the name of the folder below the mount and its arguments; what it
prints. Blocks; raises `DumbwaiterError`, `TimeoutError`."""


def beside(mount: Path) -> Observe:
    """Another mount of the same folder on this machine, or the same one: what two processes see of each other."""

    def observe(name: str, arguments: Sequence[str]) -> str:
        command = [sys.executable, str(OBSERVER), str(mount / name), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_READY_SECONDS * 3)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error
        if done.returncode != 0:
            raise DumbwaiterError(f"the other side of the check failed: {done.stderr.strip()[-300:]}", where=mount)
        return done.stdout

    return observe


def measure(mount: Path, observe: Observe) -> Measured:
    """What the mount does between this machine and the other. Raises `DumbwaiterError`."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=".dumbwaiter-mount-check-", dir=mount))
    except OSError as error:
        raise FileTrouble(f"the folder cannot be written: {words_of(error)}", where=mount) from error
    try:
        folder.chmod(0o777)
        with ThreadPoolExecutor(1) as other:
            seen = _changes(folder, lambda *arguments: other.submit(observe, folder.name, arguments))
            read = _database(folder, lambda *arguments: other.submit(observe, folder.name, arguments))
        return Measured(
            **{name: seen.get(name) for name in ("stat", "open", "descriptor", "new", "unlink", "rename", "listing")},
            locks=_locks(folder, observe),
            complete=read["last"] == _ROWS,
            back=read["back"],
            holes=read["holes"],
            malformed=read["malformed"],
            links=_has_links(folder),
            sockets=_has_sockets(folder),
        )
    except TimeoutError as error:
        raise FileTrouble(
            "the other side of the check does not answer",
            where=mount,
            hint=f"see whether `ls {shlex.quote(str(mount))}` comes back there",
        ) from error
    except OSError as error:
        raise FileTrouble(f"the folder cannot be used: {words_of(error)}", where=mount) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _changes(folder: Path, begin: Any) -> dict[str, float]:
    for name, text in (("append", "x"), ("rewrite", "first"), ("kept-open", "first "), ("gone", "x"), ("renamed", "1")):
        _write(folder / name, text)
    future = begin("watch", str(WATCH_SECONDS))
    _until_listed(folder, "observer-is-ready", future)
    time.sleep(0.2)  # the other side has looked at everything once more, and remembers it
    _write(folder / "go", "")
    begun = time.monotonic()
    written: dict[str, float] = {}  # a write that takes long is no change that is seen late

    def done(what: str) -> None:
        written[what] = time.monotonic() - begun

    with (folder / "append").open("a") as file:
        file.write("x" * 10)
    done("stat")
    _write(folder / "rewrite", "second")
    done("open")
    with (folder / "kept-open").open("r+") as file:
        file.write("second")
        file.flush()
        os.fsync(file.fileno())
    done("descriptor")
    _write(folder / "new", "x")
    done("new")
    (folder / "gone").unlink()
    done("unlink")
    _write(folder / "renamed.draft", "2")
    (folder / "renamed.draft").rename(folder / "renamed")
    done("rename")
    _write(folder / "listed", "")
    done("listing")
    found: dict[str, float] = json_text.parse(future.result())
    return {what: max(0.0, seconds - written.get(what, 0.0)) for what, seconds in found.items()}


def _database(folder: Path, begin: Any) -> dict[str, Any]:
    path = folder / "database.db"
    with closing(open_writer(path, create=True)) as connection:
        connection.execute("CREATE TABLE t (n INTEGER, text TEXT)")
    path.chmod(0o666)
    future = begin("read", str(_ROWS * _BETWEEN + WATCH_SECONDS))
    _until_listed(folder, "reader-is-ready", future)
    for number in range(1, _ROWS + 1):
        with closing(open_writer(path)) as connection, transaction(connection):
            connection.execute("INSERT INTO t VALUES (?, ?)", (number, "x" * 5000))
        time.sleep(_BETWEEN)
    _write(folder / "written", str(_ROWS))
    found: dict[str, Any] = json_text.parse(future.result())
    return found


def _locks(folder: Path, observe: Observe) -> bool:
    """Whether the other machine is kept out by a lock of this one, of both kinds."""
    held = []
    try:
        for name, lock in (("flock", fcntl.flock), ("fcntl", fcntl.lockf)):
            held.append(os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666))
            (folder / name).chmod(0o666)
            lock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = json_text.parse(observe(folder.name, ["locks"]))
        return all(answer == "held" for answer in found.values())
    except OSError:
        return False
    finally:
        for descriptor in held:
            os.close(descriptor)


def _has_links(folder: Path) -> bool:
    try:
        os.link(folder / "rewrite", folder / "linked")
    except OSError:
        return False
    return True


def _has_sockets(folder: Path) -> bool:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(f"/proc/self/fd/{opened}/socket")
    except OSError:
        return False
    finally:
        os.close(opened)
    return True


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    with suppress(OSError):
        path.chmod(0o666)


def _until_listed(folder: Path, name: str, future: Any) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while name not in os.listdir(folder):
        if future.done():
            future.result()
            raise DumbwaiterError("the other side of the check ended before it began", where=folder)
        if time.monotonic() > deadline:
            raise DumbwaiterError(
                "the other machine does not see what is written here, or does not write here",
                where=folder.parent,
                hint="see that both mount the same folder, at the same path",
            )
        time.sleep(0.02)
