"""The other machine's part of the check: it runs as a script of its own, in a container or behind another mount.

    python observer.py FOLDER watch SECONDS     look at everything for so long; when each change was first seen
    python observer.py FOLDER read SECONDS      read a database that the other side writes, opened afresh
    python observer.py FOLDER locks             try to get the locks that the other side holds

Times are of this machine's clock, relative to a mark that the other side made: `go` is when the mark was seen here, by
a listing. The answer is one line of JSON. Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from typing import Any

STEP = 0.005


def content(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return file.read(64).decode("ascii", "replace")
    except OSError:
        return None


def size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def watch(folder: str, seconds: float) -> dict[str, Any]:
    at = {name: os.path.join(folder, name) for name in ("append", "rewrite", "kept-open", "new", "gone", "renamed")}
    first: dict[str, Any] = {
        "append": size(at["append"]),
        "rewrite": content(at["rewrite"]),
        "renamed": content(at["renamed"]),
    }
    descriptor = os.open(at["kept-open"], os.O_RDONLY)
    os.pread(descriptor, 64, 0)
    os.path.exists(at["new"]), os.path.exists(at["gone"])
    open(os.path.join(folder, "observer-is-ready"), "w").close()
    looks: dict[str, Callable[[], bool]] = {
        "stat": lambda: size(at["append"]) != first["append"],
        "open": lambda: content(at["rewrite"]) != first["rewrite"],
        "descriptor": lambda: os.pread(descriptor, 64, 0).startswith(b"second"),
        "new": lambda: os.path.exists(at["new"]),
        "unlink": lambda: not os.path.exists(at["gone"]),
        "rename": lambda: content(at["renamed"]) != first["renamed"],
        "listing": lambda: "listed" in os.listdir(folder),
    }
    seen: dict[str, float] = {}
    go: float | None = None
    end = time.monotonic() + seconds
    while time.monotonic() < end and (go is None or len(seen) < len(looks)):
        if go is None:
            go = time.monotonic() if "go" in os.listdir(folder) else None
        for name, look in looks.items():
            if name not in seen and look():
                seen[name] = time.monotonic()
        time.sleep(STEP)
    base = go if go is not None else time.monotonic()
    return {name: max(0.0, when - base) for name, when in seen.items()}


def read(folder: str, seconds: float) -> dict[str, Any]:
    path = os.path.join(folder, "database.db")
    last, back, holes, errors, malformed, looks = 0, 0, 0, 0, 0, 0
    open(os.path.join(folder, "reader-is-ready"), "w").close()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        looks += 1
        try:
            if any(name == "database.db-journal" for name in os.listdir(folder)):
                time.sleep(STEP)
                continue
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1, isolation_level=None)
            count, highest = connection.execute("SELECT count(*), coalesce(max(n), 0) FROM t").fetchone()
            connection.close()
        except sqlite3.DatabaseError as error:
            errors += 1
            malformed += "malformed" in str(error) or "not a database" in str(error)
            time.sleep(STEP)
            continue
        holes += count != highest
        back += highest < last
        last = max(last, highest)
        if "written" in os.listdir(folder) and content(os.path.join(folder, "written")) == str(last):
            break
        time.sleep(STEP)
    return {"last": last, "back": back, "holes": holes, "errors": errors, "malformed": malformed, "looks": looks}


def locks(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    kinds: tuple[tuple[str, Callable[[int, int], Any]], ...]
    kinds = (("flock", fcntl.flock), ("fcntl", fcntl.lockf))
    for name, lock in kinds:
        try:
            descriptor = os.open(os.path.join(folder, name), os.O_RDWR)
            try:
                lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found[name] = "taken twice"
            finally:
                os.close(descriptor)
        except BlockingIOError:
            found[name] = "held"
        except OSError as error:
            found[name] = error.strerror
    return found


def main() -> None:
    folder, what = sys.argv[1:3]
    does = {"watch": watch, "read": read}.get(what)
    found = locks(folder) if does is None else does(folder, float(sys.argv[3]))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
