"""What can be seen and reached from inside an agent's container. Runs there, with the standard library alone.

    python3 inside.py BEGINNING REST      prints one JSON object; the two words together are the key to look for

The key comes in two halves, so that neither this file nor the command line has it.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
import urllib.error
import urllib.request

_PLACES = ("/proc", "/session", "/workspace", "/tmp", "/etc", "/app", "/run", "/var", "/dev/shm")
_MOST_BYTES = 1_000_000
_SECONDS = 30.0


def files_with(key: str) -> tuple[list[str], int]:
    """The files in reach that have the key in them, and how many were read; environments of processes among them."""
    found, read = [], 0
    for top in _PLACES:
        for folder, _, names in os.walk(top):
            for path in (os.path.join(folder, name) for name in names):
                try:
                    if not (os.path.isfile(path) or top == "/proc") or path.endswith("kmsg"):
                        continue
                    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                        content = file.read(_MOST_BYTES) or b""
                except OSError:
                    continue
                read += 1
                if key.encode() in content:
                    found.append(path)
    return found, read


def sockets() -> list[str]:
    """The sockets of the whole file system, without those that programs of the container make for themselves."""
    paths = (os.path.join(folder, name) for folder, _, names in os.walk("/") for name in names)
    return sorted(path for path in paths if _is_socket(path) and not path.startswith("/tmp/"))


def answer_of(url: str) -> int | str:
    """The status of a request by the way out that the environment names, or what it fails with."""
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        return type(error).__name__


def is_reached(host: str) -> bool:
    """Whether a host can be connected to directly."""
    try:
        socket.create_connection((host, 80), timeout=_SECONDS).close()
    except OSError:
        return False
    return True


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def main() -> None:
    """Look around."""
    found, read = files_with("".join(sys.argv[1:]))
    seen = {
        "key": found,
        "files": read,
        "sockets": sockets(),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "reached": [host for host in ("1.1.1.1", "172.17.0.1", "169.254.169.254") if is_reached(host)],
        "not listed": answer_of("http://example.com/"),
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
