"""Tricks with `outbound.db` as a file: damaged, swapped for something else, or with something else beside it."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import socket
import sqlite3
import stat
import struct
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NoReturn

from tests.hostile.session import Session, ack, now

Act = Callable[[Session, str], None]

_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_HUGE = 100 * 1024**3


# Damage


def zero_length(at: Session, message: str) -> NoReturn:
    os.truncate(at.database, 0)
    at.hold()


def cut_in_the_middle(at: Session, message: str) -> NoReturn:
    os.truncate(at.database, at.database.stat().st_size // 2 + 7)
    at.hold()


def random_bytes(at: Session, message: str) -> NoReturn:
    at.put(os.urandom(50_000))
    at.hold()


def header_alone(at: Session, message: str) -> NoReturn:
    at.put(at.database.read_bytes()[:100])
    at.hold()


def garbage_behind_a_good_header(at: Session, message: str) -> NoReturn:
    data = at.database.read_bytes()
    at.put(data[:100] + os.urandom(len(data)))
    at.hold()


def pages_in_a_circle(at: Session, message: str) -> NoReturn:
    """Every interior page leads back to the first: a tree without an end."""
    data = bytearray(at.database.read_bytes())
    page = int.from_bytes(data[16:18], "big")
    for start in range(page, len(data), page):
        data[start : start + 12] = struct.pack(">BHHHBI", 5, 0, 0, page % 65536, 0, start // page + 1)
    at.put(bytes(data))
    at.hold()


def huge_and_sparse(at: Session, message: str) -> None:
    """100 GB of nothing behind the last page; as much as can be had where files are limited."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        os.truncate(at.database, _HUGE)
    except OSError:
        os.truncate(at.database, resource.getrlimit(resource.RLIMIT_FSIZE)[0])
    at.reply(message, "done")


def wal_mode(at: Session, message: str) -> NoReturn:
    with closing(sqlite3.connect(at.database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("INSERT INTO session_state VALUES ('a change', '', '')")
        at.hold()


def wal_header(at: Session, message: str) -> NoReturn:
    """The header says WAL, and there is no log."""
    with at.database.open("r+b") as file:
        file.seek(18)
        file.write(b"\2\2")
    at.hold()


# Something else in place of a file


def _of_the_host(at: Session, name: str) -> Path:
    """A file in the data folder; a container has none to offer but its own."""
    path = at.folder.parent.parent.parent / name
    return path if path.exists() else Path("/etc/passwd")


def _nothing(at: Session, name: str) -> None:
    at.clear(name)


def _link_to_another_session(at: Session, name: str) -> None:
    """`victim.db` is a good file of another session; whoever reads it here sends its secret to this one's chat."""
    os.symlink(_of_the_host(at, "victim.db"), at.out / name)


def _link_to_a_file_of_the_host(at: Session, name: str) -> None:
    os.symlink(_of_the_host(at, "precious"), at.out / name)


def _link_to_itself(at: Session, name: str) -> None:
    os.symlink(at.out / name, at.out / name)


def _second_name(at: Session, name: str) -> None:
    """A hard link to the host's central.db, where it is only to be read; else to another file of the host's.

    In a container no file but those in out/ can be linked.
    """
    try:
        os.link(_of_the_host(at, "central.db" if name == "outbound.db" else "precious"), at.out / name)
    except OSError:
        at.put(b"", name)


def _folder(at: Session, name: str) -> None:
    (at.out / name).mkdir()


def _pipe(at: Session, name: str) -> None:
    os.mkfifo(at.out / name)


def _socket(at: Session, name: str) -> None:
    os.chdir(at.out)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)


def _device(at: Session, name: str) -> None:
    """Of a terminal, on which an open may wait; where no device can be made, a link to one."""
    try:
        os.mknod(at.out / name, stat.S_IFCHR | 0o666, os.makedev(5, 0))
    except PermissionError:
        os.symlink("/dev/tty", at.out / name)


THINGS: dict[str, Callable[[Session, str], None]] = {
    "nothing": _nothing,
    "a link to another session's file": _link_to_another_session,
    "a link to a file of the host's": _link_to_a_file_of_the_host,
    "a link to itself": _link_to_itself,
    "a file of the host's under a second name": _second_name,
    "a folder": _folder,
    "a pipe": _pipe,
    "a socket": _socket,
    "a device": _device,
}


def in_place_of(names: tuple[str, ...], thing: str, *, answers: bool) -> Act:
    """That thing under those names in out/; the message is answered before, or never."""

    def act(at: Session, message: str) -> None:
        if answers:
            at.reply(message, "done")
        for name in names:
            at.clear(name)
            THINGS[thing](at, name)
        at.hold()

    return act


def journal_that_names_a_super_journal(at: Session, message: str) -> NoReturn:
    """SQLite deletes the file that is named, when it rolls such a journal back. `precious` is a file of the host's."""
    name = str(_of_the_host(at, "precious")).encode()
    checksum = sum(name) & 0xFFFFFFFF
    record = b"\0\0\0\1" + name + len(name).to_bytes(4, "big") + checksum.to_bytes(4, "big") + _JOURNAL_MAGIC
    at.put(bytes(512) + record, "outbound.db-journal")
    at.hold()


def journal_that_is_garbage(at: Session, message: str) -> NoReturn:
    at.put(os.urandom(100_000), "outbound.db-journal")
    at.hold()


def journal_of_a_far_page(at: Session, message: str) -> NoReturn:
    """SQLite believes the size to go back to: 2^31 pages, which makes a file of 8.8 TB."""
    head = _JOURNAL_MAGIC + struct.pack(">IIIII", 0, 0, 2**31 - 1, 512, 4096)
    at.put(head.ljust(512, b"\0"), "outbound.db-journal")
    at.hold()


def sparse_beside_a_journal(at: Session, message: str) -> NoReturn:
    """A database of 3 GB, almost all of it a hole, that has to be copied to be recovered."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with suppress(OSError):
        os.truncate(at.database, 3 * 1024**3)
    at.put(os.urandom(100_000), "outbound.db-journal")
    at.hold()


# That an open should wait, or fail


def leased_without_end(at: Session, message: str) -> NoReturn:
    """Whoever opens the file waits until the kernel takes the lease away, and then there is another one."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    file = os.open(at.database, os.O_RDONLY)
    while True:
        with suppress(OSError):
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        at.beat()
        time.sleep(0.001)


def as_many_names_as_a_file_can_have(at: Session, message: str) -> NoReturn:
    """Not one more link can be made to it, so that the host cannot have its own name for it."""
    at.beat_beside()
    draft, names = at.out / "draft", at.out / "names"
    draft.write_bytes(at.database.read_bytes())
    names.mkdir()
    with suppress(OSError):
        for number in range(at.sizes.links):
            os.link(draft, names / str(number))
    os.rename(draft, at.database)
    at.hold()


def modes_that_forbid_everything(at: Session, message: str) -> None:
    at.reply(message, "done")
    for path in (at.database, at.outbox, at.out):
        with suppress(OSError):
            path.chmod(0)
    at.hold()


# While the host looks


def swapped_without_end(at: Session, message: str) -> None:
    """Another thing under the name thousands of times a second: good, garbage, a link, a pipe, and good again."""
    good = at.database.read_bytes()
    drafts = [at.out / f"draft-{number}" for number in range(4)]
    end = time.monotonic() + at.sizes.seconds
    while time.monotonic() < end:
        at.beat()
        for _ in range(50):
            drafts[0].write_bytes(good)
            drafts[1].write_bytes(b"garbage " * 100)
            os.symlink(_of_the_host(at, "victim.db"), drafts[2])
            os.mkfifo(drafts[3])
            for draft in drafts:
                os.rename(draft, at.database)
    at.put(good)
    at.reply(message, "done")


def written_without_end(at: Session, message: str) -> None:
    """Commits as fast as they go: each is a hint, and something new to read."""
    end = time.monotonic() + at.sizes.seconds
    with closing(sqlite3.connect(at.database, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA busy_timeout = 5000")
        while time.monotonic() < end:
            at.beat()
            connection.execute("INSERT OR REPLACE INTO session_state VALUES ('busy', '', ?)", (now(),))
    at.reply(message, "done")


def touched_without_end(at: Session, message: str) -> None:
    """A hint without anything new behind it, as fast as it goes."""
    end = time.monotonic() + at.sizes.seconds
    while time.monotonic() < end:
        at.beat()
        for _ in range(1000):
            with at.database.open("ab"):
                pass
            os.utime(at.database)
    at.reply(message, "done")


def locked_for_ever(at: Session, message: str) -> NoReturn:
    with closing(sqlite3.connect(at.database, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("INSERT INTO session_state VALUES ('a change', '', '')")
        at.hold()


def _lock_inbound(at: Session, message: str, begin: str) -> NoReturn:
    at.reply(message, "done")
    with closing(sqlite3.connect(f"file:{at.inbound}?mode={'ro' if begin == 'BEGIN' else 'rw'}", uri=True)) as lock:
        lock.isolation_level = None
        lock.execute(begin)
        lock.execute("SELECT count(*) FROM messages_in").fetchone()
        at.hold()


def inbound_read_for_ever(at: Session, message: str) -> NoReturn:
    _lock_inbound(at, message, "BEGIN")


def inbound_locked_for_ever(at: Session, message: str) -> NoReturn:
    _lock_inbound(at, message, "BEGIN EXCLUSIVE")


# Too much of it


def more_bytes_than_allowed(at: Session, message: str) -> NoReturn:
    for number in range(5):
        with (at.out / f"rubbish-{number}").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 500_000_000)
    at.hold()


def more_files_than_can_be_counted(at: Session, message: str) -> NoReturn:
    at.beat_beside()
    many = at.out / "many"
    many.mkdir()
    for number in range(at.sizes.files):
        os.mknod(many / str(number))
    at.hold()


def more_folders_than_can_be_counted(at: Session, message: str) -> NoReturn:
    """In out/ itself, which the host watches."""
    at.beat_beside()
    for number in range(at.sizes.files):
        (at.out / str(number)).mkdir()
    at.hold()


def folders_deeper_than_a_path_is_long(at: Session, message: str) -> NoReturn:
    os.chdir(at.out)
    for _ in range(5000):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    at.hold()


def outbox_with_links_and_pipes(at: Session, message: str) -> None:
    """A folder in `outbox/`, or the file in that: each a link, a pipe or a folder, and each named by a row."""
    at.outbox.mkdir(exist_ok=True)
    rows = []
    for thing, make in THINGS.items():
        for place in ("the folder", "the file"):
            row = at.row(message, thing)
            box = f"outbox/{row[1][0]}"
            if place == "the folder":
                make(at, box)
            else:
                (at.out / box).mkdir()
                make(at, f"{box}/file")
            content = json.dumps({"text": f"{place}: {thing}", "files": ["file"]})
            rows.append((row[0], [*row[1][:-1], content]))
    at.write([*rows, at.row(message, "done"), ack(message)])
