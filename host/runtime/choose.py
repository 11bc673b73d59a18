"""Which runtime this host uses: `runtime = auto | docker | process`, and in a sentence why.

`auto` prefers isolation and never waits long for an engine that does not answer. Falling back to processes is never
silent: the choice carries a warning.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from host.runtime.images import make_ready
from host.runtime.process import ProcessRuntime
from host.runtime.protocol import Runtime, RuntimeUnavailable, StartFailed
from host.runtime.sources import SOURCE_ROOT
from shared_schema.errors import DumbwaiterError, InvalidValue

if TYPE_CHECKING:
    from host.runtime.docker import DockerRuntime

SETTINGS = ("auto", "docker", "process")
NO_ISOLATION = "NO ISOLATION: agents run as plain processes and can read and change whatever their user can"


@dataclass(frozen=True, slots=True)
class Choice:
    """The runtime to use, why it was taken, and what a person must be told about it, if anything."""

    runtime: Runtime
    reason: str
    warning: str | None = None


async def choose(
    setting: str,
    *,
    install_id: str,
    image: str,
    base_image: str,
    run_folder: Path,
    docker_host: str | None,
    providers: Collection[str] = (),
    context: Path = SOURCE_ROOT,
) -> Choice:
    """The runtime for a setting.

    `image` is what agents run, in the variants that `providers` need; `base_image` is what it is built from when it is
    missing and `context` (a source checkout) has a Dockerfile.agent; `docker_host` is the engine's address, None for
    docker's default.

    Raises `InvalidValue` for an unknown setting, and `RuntimeUnavailable` or `StartFailed` when docker is demanded and
    cannot be had.
    """
    if setting not in SETTINGS:
        raise InvalidValue(f"'{setting}' is not a runtime", hint=f"use one of {', '.join(SETTINGS)}")
    if setting == "process":
        return Choice(ProcessRuntime(install_id, run_folder), "process: the settings say so", NO_ISOLATION)

    from host.runtime.docker import DockerRuntime  # takes 150 ms; not needed for processes

    runtime = DockerRuntime(install_id, docker_host)
    try:
        reason = await _ready(runtime, image, base_image, providers, context)
    except (RuntimeUnavailable, StartFailed) as error:
        await runtime.close()
        if setting == "docker":
            raise type(error)(
                f"runtime = docker, but {error.what}",
                where=error.where,
                hint=error.hint or "see `dumbwaiter doctor`, or set runtime = process",
            ) from error
        return _fallback(error, install_id, run_folder)
    return Choice(runtime, f"docker: {reason}")


def others(names: set[str], install_id: str, run_folder: Path, docker_host: str | None) -> list[Runtime]:
    """Runtimes by name, to look for agents that a host with another setting left."""
    found: list[Runtime] = []
    if "process" in names:
        found.append(ProcessRuntime(install_id, run_folder))
    if "docker" in names:
        from host.runtime.docker import DockerRuntime  # takes 150 ms

        found.append(DockerRuntime(install_id, docker_host))
    return found


async def _ready(runtime: DockerRuntime, image: str, base_image: str, providers: Collection[str], context: Path) -> str:
    """Make sure that agents can be started; say how it stands."""
    engine = f"engine {await runtime.engine_version()} answers"
    return f"{engine} and the image {image} {await make_ready(runtime, image, base_image, providers, context)}"


def _fallback(error: DumbwaiterError, install_id: str, run_folder: Path) -> Choice:
    return Choice(
        ProcessRuntime(install_id, run_folder),
        f"process: {error.what}",
        f"{NO_ISOLATION}. Docker is not used because {error}",
    )
