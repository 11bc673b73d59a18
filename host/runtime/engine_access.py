"""Why a user may not use the engine's socket, and what to type."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path


def how_to_get_in(socket: Path) -> str:
    """What a person does who was refused: the engine runs, so starting it is no help."""
    uid = os.geteuid()
    try:
        user: str | None = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = None
    try:
        status = socket.stat()
        group = grp.getgrgid(status.st_gid)
    except (OSError, KeyError):
        return f"run as a user who may reach {socket}, or set runtime = process"
    if status.st_gid == 0:
        return f"{socket} is root's alone: run as root, or give the engine a group (`dockerd --group`)"
    if user is None:
        return f"uid {uid} has no name to put into the group '{group.gr_name}': run as a user of that group"
    if user in group.gr_mem:
        return f"'{user}' is in the group '{group.gr_name}', but this login is older than that: log in anew"
    return f"type `sudo usermod -aG {group.gr_name} {user}` and log in anew; whoever is in it can become root"
