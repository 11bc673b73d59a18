"""The sockets that agents connect to, and the file that tells an agent of a port. Blocks; in the host's own folders.

A Unix socket's path is short (107 bytes on Linux), and a data folder may lie deep. So it is made through the folder's
descriptor, whose path under /proc is short; where there is no /proc the whole path has to fit.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host.sessions.folder import Owner
from shared_schema.errors import DumbwaiterError
from shared_schema.layout import SessionLayout
from shared_schema.system_errors import words_of

BACKLOG = 1024
"""More than a session may have open: a Unix socket whose queue is full refuses at once, and asyncio does not see it."""
_LONGEST_SOCKET_PATH = 103  # of the systems without /proc: sockaddr_un of macOS, less the final zero


def unix_socket(layout: SessionLayout, owner: Owner) -> socket.socket:
    """A listening socket in the session folder, for the agent's group. Replaces one that an earlier host left.

    Raises `DumbwaiterError`.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        with _short(layout.gateway) as path:
            Path(path).unlink(missing_ok=True)
            listening.bind(path)
            _let_group(path, owner, 0o660)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise DumbwaiterError(
            f"the gateway's socket cannot be made: {words_of(error)}", where=layout.gateway
        ) from error
    return listening


def tcp_socket(layout: SessionLayout, owner: Owner, token: str) -> socket.socket:
    """A listening socket on a free loopback port, and the file that tells the agent of it and of its token.

    Raises `DumbwaiterError`.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        listening.bind(("127.0.0.1", 0))
        listening.listen(BACKLOG)
        draft = layout.folder / f".{layout.gateway_port.name}.new"
        draft.unlink(missing_ok=True)
        host, port = listening.getsockname()
        content = json.dumps({"host": host, "port": port, "token": token})
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(content)
        _let_group(str(draft), owner, 0o640)
        draft.replace(layout.gateway_port)
    except OSError as error:
        listening.close()
        raise DumbwaiterError(f"the gateway's port cannot be opened: {words_of(error)}", where=layout.folder) from error
    return listening


def remove(layout: SessionLayout) -> None:
    """Remove what told the agent of the gateway. The folder may be gone already."""
    layout.gateway.unlink(missing_ok=True)
    layout.gateway_port.unlink(missing_ok=True)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A path of the same place that fits into a socket's address."""
    if not Path("/proc/self/fd").is_dir():
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
            raise DumbwaiterError(
                f"the path of the socket is longer than {_LONGEST_SOCKET_PATH} bytes",
                where=path,
                hint="use a data folder with a shorter path",
            )
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _let_group(path: str, owner: Owner, mode: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, 0, owner.gid)
    os.chmod(path, mode)
