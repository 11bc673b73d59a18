"""Why an engine cannot be used, as far as this machine's user and programs are the reason, and what to type."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import sys
from pathlib import Path

_USUAL = Path("/var/run/docker.sock")


def how_to_start(socket: Path | None) -> str:
    """What a person does whose engine does not answer; `socket` is None where it is reached by a port."""
    if socket is None or socket != _USUAL:
        return "start it, or choose another one with the setting docker_host"
    if shutil.which("docker") is None and shutil.which("dockerd") is None:
        return "install docker (on Debian and Ubuntu: `sudo apt install docker.io`)"
    if sys.platform == "darwin":
        return "type `open -a Docker`"
    if Path("/run/systemd/system").is_dir():
        return "type `sudo systemctl start docker`"
    return "type `sudo service docker start`"


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
        return f"run as a user who may reach {socket}"
    if status.st_gid == 0:
        return f"{socket} is root's alone: run as root, or give the engine a group (`dockerd --group`)"
    if user is None:
        return f"uid {uid} has no name to put into the group '{group.gr_name}': run as a user of that group"
    if user in group.gr_mem:
        return f"'{user}' is in the group '{group.gr_name}', but this login is older than that: log in anew"
    return f"type `sudo usermod -aG {group.gr_name} {user}` and log in anew; its members can become root"
