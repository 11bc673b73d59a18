"""What runs agents: the seam between the host and docker, plain processes, or anything else.

A runtime knows nothing of messages. It starts an agent on a session folder, says whether it lives, ends it, and finds
the agents of this install again after the host was restarted. All methods may block on an engine for a long time: they
are coroutines, and each has its own time limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Protocol, runtime_checkable

from host.runtime.layers import BuiltLayer, LayerRequest
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError
from shared_schema.layout import SessionLayout


class RuntimeUnavailable(DumbwaiterError):
    """The engine does not answer. Nothing is known about the agents; trying again later may help."""


class StartFailed(DumbwaiterError):
    """The engine answers, and this agent cannot be started (image missing, specification refused)."""


class BuildFailed(StartFailed):
    """A layer with packages cannot be built; `log` is what the build printed last."""

    def __init__(self, what: str, log: str) -> None:
        super().__init__(what)
        self.log = log


SMALLEST_MEMORY, LARGEST_MEMORY = 32 * 1024**2, 2**50
"""Bytes. An engine refuses less than 6 MiB; with less than 32 an agent does not come up."""
SMALLEST_CPUS, LARGEST_CPUS = 0.01, 10_000.0
"""A hundredth is the kernel's least share of the period it counts in."""
SMALLEST_PIDS, LARGEST_PIDS = 8, 4_194_304
"""The most is the kernel's PID_MAX_LIMIT: a control group takes no larger number."""

MOST_GPUS = 64
"""Of one agent: more than a machine has."""


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """What one agent may use. Bytes, CPUs (1.5 is one and a half), processes."""

    memory_bytes: int = 2 * 1024**3
    cpus: float = 2.0
    pids: int = 256
    tmp_bytes: int = 256 * 1024**2
    file_bytes: int = 1024**3  # the largest single file an agent can write
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the host that an agent group sees as /mnt/<name>; already resolved and allowed."""

    source: Path
    name: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class RelayTarget:
    """What the relay beside an agent is given: where the gateway is (host:port), its certificate (PEM), the token."""

    address: str
    certificate: str
    token: str


@dataclass(frozen=True, slots=True)
class AgentSpecification:
    """One agent to start. `run_id` (`run_…`) names this start; `environment` holds no secrets, by rule 7."""

    install_id: str
    run_id: str
    session_id: str
    agent_group_id: str
    folder: SessionLayout
    workspace: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: ResourceLimits = ResourceLimits()
    mounts: tuple[Mount, ...] = ()
    image: str = ""
    uid: int = 0
    gid: int = 0
    oci_runtime: str | None = None  # docker's --runtime, e.g. "runsc" for gVisor
    node: str = ""  # where it was placed, for a runtime of several machines
    labels: Mapping[str, str] = field(default_factory=dict)  # what its node must have, where the engine places it
    way: RelayTarget | None = None  # how an agent on another machine reaches the gateway


@dataclass(frozen=True, slots=True)
class AgentHandle:
    """A started agent, as its runtime knows it. `reference` is a container id or a process id.

    `node` names the machine, where the runtime has several.
    """

    run_id: str
    session_id: str
    reference: str
    node: str = ""


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """Whether an agent lives. Of one that ended: exit code and reason ("out of memory"), as far as known."""

    alive: bool
    exit_code: int | None = None
    reason: str | None = None


class Runtime(Protocol):
    """Runs agents.

    Every method raises `RuntimeUnavailable` when the engine does not answer in time. A handle of an agent that does not
    exist any more is not an error anywhere: it is simply not alive.
    """

    name: str

    async def start(self, specification: AgentSpecification) -> AgentHandle:
        """Start an agent and return at once; it need not have done anything yet. Raises `StartFailed`."""

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        """End an agent: SIGTERM, after `grace` seconds SIGKILL. Returns only when it is gone; its logs stay readable
        until `remove`."""

    async def poll(self, handle: AgentHandle, max_age: float = 0.0) -> AgentStatus:
        """Whether it lives now; with `max_age` it is enough that it lived so many seconds ago.

        An engine is then asked once for hundreds of agents (`living.py`).
        """

    async def list(self) -> list[AgentHandle]:
        """All agents of this install the runtime still knows, alive or ended and not removed."""

    async def logs(self, handle: AgentHandle, max_bytes: int = 1_000_000) -> bytes:
        """The last part of what the agent printed, standard output and error together; empty when unknown."""

    async def remove(self, handle: AgentHandle) -> None:
        """Forget an agent that has ended, its logs included. A living one is killed first."""

    async def close(self) -> None:
        """Release the connection to the engine. Agents go on."""


@runtime_checkable
class GpuRuntime(Protocol):
    """A runtime that can be asked whether its agents get GPUs, before one is started."""

    async def require_gpus(self, count: int, image: str, labels: Mapping[str, str]) -> None:
        """Try so many GPUs with a container of an image, where agents that ask for these labels run.

        Raises `StartFailed` with the reason where they are refused, `RuntimeUnavailable` where that is not known now.
        """


@runtime_checkable
class LayerRuntime(Protocol):
    """A runtime whose agents have images, on which packages can be installed. Raises as `Runtime`."""

    async def image_id(self, image: str) -> str | None:
        """The engine's id of an image; None when there is none of that name."""

    async def build_layer(self, request: LayerRequest) -> BuiltLayer:
        """Build an image with packages, within a time limit. Raises `BuildFailed`."""

    async def remove_image(self, image: str) -> None:
        """Remove an image that is not used; one that is gone, or in use, is no error."""
