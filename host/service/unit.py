"""The unit file of the host, as text. Pure: what it says is compared as text, and by `systemd-analyze verify`.

A host runs in one of two kinds of unit. The *system* unit starts at boot and runs as a user that is named; the *user*
unit belongs to the person who installs it, and starts at boot when that person may linger (`man loginctl`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from shared_schema.dataclass import dataclass

MARK = "# Made by `dumbwaiter service install`; made anew by it, removed by `dumbwaiter service uninstall`."
_DATA = "# data: "
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))


class Scope(StrEnum):
    """Whose systemd the unit belongs to."""

    SYSTEM = "system"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Unit:
    """What a unit is made of. `command` starts the host; `user`, `group` and `groups` count in a system unit alone."""

    scope: Scope
    command: Sequence[str]
    data: Path
    user: str = "root"
    group: str = "root"
    groups: Sequence[str] = ()
    stop_seconds: int = 60


def text(unit: Unit) -> str:
    """The unit file."""
    command = " ".join(_quoted(word) for word in (*unit.command, "--data", str(unit.data), "run"))
    lines = [
        MARK,
        f"{_DATA}{unit.data}",
        "[Unit]",
        "Description=Dumbwaiter, the host of AI agents",
        "Wants=network-online.target",
        "After=network-online.target docker.service",
        "",
        "[Service]",
        # The host says itself when it takes messages, and when it stops (host/service/notify.py).
        "Type=notify",
        f"ExecStart={command}",
        "Restart=on-failure",
        "RestartSec=2",
        # A setting that cannot be right does not become right by trying again.
        "RestartPreventExitStatus=2",
        # Agents without a container are processes of this unit. The host ends them itself when it is told to stop; when
        # it is killed they go on, and the next host takes them over.
        "KillMode=process",
        f"TimeoutStopSec={unit.stop_seconds}",
        "UMask=0077",
        "LimitNOFILE=1048576",
        "",
        *_rights(unit),
        "",
        "[Install]",
        f"WantedBy={'multi-user.target' if unit.scope is Scope.SYSTEM else 'default.target'}",
        "",
    ]
    return "\n".join(lines)


def data_of(text: str) -> Path | None:
    """The data folder of a unit file that was made here; None of any other file."""
    lines = text.splitlines()
    if MARK not in lines:
        return None
    return next((Path(line.removeprefix(_DATA)) for line in lines if line.startswith(_DATA)), None)


def _rights(unit: Unit) -> list[str]:
    """What the host gives up. A user's systemd can only do what needs no rights of its own."""
    common = [
        "NoNewPrivileges=yes",
        "LockPersonality=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallErrorNumber=EPERM",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    ]
    if unit.scope is Scope.USER:
        return common
    is_root = unit.user == "root"
    return [
        f"User={unit.user}",
        f"Group={unit.group}",
        *([f"SupplementaryGroups={' '.join(unit.groups)}"] if unit.groups else []),
        *common,
        # A host that is root gives agents without a container a user of their own, and its files to them.
        *([] if is_root else ["CapabilityBoundingSet=", "AmbientCapabilities="]),
        "ProtectSystem=strict",
        "ProtectHome=read-only",
        f"ReadWritePaths={_quoted(str(unit.data))}",
        *([] if any(unit.data.is_relative_to(each) for each in _TEMPORARY) else ["PrivateTmp=yes"]),
        "PrivateDevices=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "RestrictNamespaces=yes",
    ]


def _quoted(word: str) -> str:
    """A word of a command or a path as systemd reads it (`man systemd.syntax`, `man systemd.service`)."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or any(character.isspace() for character in word) else word
