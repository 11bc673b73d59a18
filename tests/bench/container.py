"""A bare container that may do what an agent may, no more and no less: the floor of what containers cost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from host.runtime.specification import container_arguments
from host.sessions.folder import Owner
from tests.bench.workbench import LABEL, docker
from tests.runtime.agents import UID, session_folder, specification


class BareContainer:
    """`python3 -c …` in the image of agents, with every limit, mount and restriction that the runtime gives an agent.

    All but the log: `docker run` waits for its container's output, an agent's is kept by the engine.
    """

    def __init__(self, folder: Path, image: str) -> None:
        folder.mkdir()
        folder.chmod(0o711)
        given = specification(session_folder(folder, ""), "bench", image=image, uid=Owner.of_agents(UID).uid)
        self._options = [*_options(container_arguments(given)), f"--label={LABEL}={os.getpid()}"]
        self._command = ["--entrypoint=python3", image, "-c"]

    def run(self, program: str) -> None:
        """Run a program to its end: `docker run --rm`."""
        docker("run", "--rm", *self._options, *self._command, program)

    @contextmanager
    def running(self, program: str) -> Iterator[str]:
        """Start a program and leave it running; the container's id."""
        container = docker("run", "--detach", *self._options, *self._command, program)
        try:
            yield container
        finally:
            docker("rm", "--force", container)


def _options(arguments: dict[str, Any]) -> list[str]:
    """What the runtime asks the engine for, as options of the docker command."""
    mounts = [
        f"type=bind,src={m['Source']},dst={m['Target']}{',readonly' if m['ReadOnly'] else ''}"
        for m in arguments["mounts"]
    ]
    return [
        f"--user={arguments['user']}",
        *(f"--cap-drop={name}" for name in arguments["cap_drop"]),
        *(f"--security-opt={option}" for option in arguments["security_opt"]),
        f"--network={arguments['network_mode']}",
        f"--ipc={arguments['ipc_mode']}",
        "--read-only",
        *(f"--tmpfs={path}:{options}" for path, options in arguments["tmpfs"].items()),
        *(f"--mount={mount}" for mount in mounts),
        f"--workdir={arguments['working_dir']}",
        *(f"--env={name}={value}" for name, value in arguments["environment"].items()),
        f"--memory={arguments['mem_limit']}",
        f"--memory-swap={arguments['memswap_limit']}",
        f"--cpu-period={arguments['cpu_period']}",
        f"--cpu-quota={arguments['cpu_quota']}",
        f"--pids-limit={arguments['pids_limit']}",
        *(f"--ulimit={limit['Name']}={limit['Soft']}:{limit['Hard']}" for limit in arguments["ulimits"]),
        f"--oom-score-adj={arguments['oom_score_adj']}",
        "--init",
        f"--log-opt=max-size={arguments['log_config']['config']['max-size']}",
    ]
