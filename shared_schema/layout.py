"""Every path of the data folder and of a session folder (DESIGN section 3), in one place.

<data>/central.db  history.db  host.lock  host.sock  dumbwaiter.toml  mounts.toml
<data>/lease/<number>                    which host serves the folder, where several machines see it (host/lease.py)
<data>/mount.json                        what `mount check` found of the mount on which the folder lies
<data>/install.json                      in which folder of which file system this install was last used
<data>/backups/                          central.db as it was before its schema was brought up to date
<data>/spool/                            files of accepted events that are not yet in a session
<data>/channels/<channel>/               what a channel keeps for good: keys of encrypted rooms
<data>/downloads/<channel>/              files on their way from a platform
<data>/run/                              what the process runtime remembers of its processes
<data>/agents/<folder>/                   the workspace of an agent group
<data>/sessions/<agent_group_id>/<session_id>/
    inbound.db  inbox/<message_id>/      written by the host
    sent/out-<seq>/                      the host's copies of files that went out
    agent.log                            what the agent printed, kept by the host
    gateway.sock  or  gateway.json       the agent's only way out
    outbound.db -> out/outbound.db       links for people
    .heartbeat -> out/.heartbeat
    .reading/outbound.db                 the host's own name for the agent's file (see host/sessions/outbox.py)
    out/outbound.db  out/.heartbeat  out/.lock  out/outbox/<message_id>/     written by the agent
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from shared_schema.dataclass import dataclass

CONTAINER_SESSION = Path("/session")
CONTAINER_WORKSPACE = Path("/workspace")

OUTBOUND = "outbound.db"
HEARTBEAT = ".heartbeat"
AGENT_LOCK = ".lock"
OUT = "out"
OUTBOX = "outbox"

GATEWAY_ALIVE = "/dumbwaiter/alive"
"""What an agent asks the gateway for to learn whether it lives: it answers with its id, which every restart changes."""


@dataclass(frozen=True)  # slots would leave no room for what is made once
class SessionLayout:
    """The paths inside one session folder, the same for both sides. Those that every message needs are made once.

    `shared`: it lies on a mount of several machines, which shows changes late (`late_mount.py`).
    """

    folder: Path
    shared: bool = False
    way_out: Path | None = None  # the gateway's socket, where it is not in the folder

    @cached_property
    def inbound(self) -> Path:
        return self.folder / "inbound.db"

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def sent(self) -> Path:
        return self.folder / "sent"

    @property
    def log(self) -> Path:
        return self.folder / "agent.log"

    @property
    def gateway(self) -> Path:
        return self.way_out or self.folder / "gateway.sock"

    @property
    def gateway_port(self) -> Path:
        """Names a port and a token, where the folder takes no sockets."""
        return self.folder / "gateway.json"

    @cached_property
    def reading(self) -> Path:
        return self.folder / ".reading"

    @cached_property
    def out(self) -> Path:
        return self.folder / OUT

    @cached_property
    def outbound(self) -> Path:
        return self.out / OUTBOUND

    @cached_property
    def heartbeat(self) -> Path:
        return self.out / HEARTBEAT

    @property
    def agent_lock(self) -> Path:
        return self.out / AGENT_LOCK

    @property
    def outbox(self) -> Path:
        return self.out / OUTBOX


@dataclass(frozen=True, slots=True)
class DataLayout:
    """The paths inside a data folder; host only. `shared` is as in `SessionLayout`."""

    data: Path
    shared: bool = False

    @property
    def central(self) -> Path:
        return self.data / "central.db"

    @property
    def history(self) -> Path:
        return self.data / "history.db"

    @property
    def lock(self) -> Path:
        return self.data / "host.lock"

    @property
    def socket(self) -> Path:
        return self.data / "host.sock"

    @property
    def install(self) -> Path:
        return self.data / "install.json"

    @property
    def lease(self) -> Path:
        return self.data / "lease"

    @property
    def mount_verdicts(self) -> Path:
        return self.data / "mount.json"

    @property
    def backups(self) -> Path:
        return self.data / "backups"

    @property
    def settings(self) -> Path:
        return self.data / "dumbwaiter.toml"

    @property
    def upstreams(self) -> Path:
        return self.data / "upstreams.toml"

    @property
    def spool(self) -> Path:
        return self.data / "spool"

    @property
    def downloads(self) -> Path:
        return self.data / "downloads"

    @property
    def run(self) -> Path:
        return self.data / "run"

    @property
    def sessions(self) -> Path:
        return self.data / "sessions"

    @property
    def agents(self) -> Path:
        return self.data / "agents"

    @property
    def mounts(self) -> Path:
        return self.data / "mounts.toml"

    def workspace(self, folder: str) -> Path:
        return self.agents / folder

    def session(self, agent_group_id: str, session_id: str) -> SessionLayout:
        return SessionLayout(self.sessions / agent_group_id / session_id, self.shared)
