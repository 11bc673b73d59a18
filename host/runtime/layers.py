"""Images with packages that were installed for one agent group: what they are built from. Pure.

A layer is built on the image that the agents would have without it, from all packages at once: what it has does not
depend on the order in which they were asked for. Packages are installed where programs find them, and behind the
agent's own libraries, which come first in its path.
"""

from __future__ import annotations

import shlex

from shared_schema.dataclass import dataclass
from shared_schema.packages import MANAGERS, Packages, problem

REPOSITORY = "dumbwaiter-layer"
INSTALL = "dumbwaiter.install"
"""The label with the install that made a layer."""
_LISTS = "rm -rf /var/lib/apt/lists/*"
# An image without pip has one for the time of the build: from Python's own copy, else from Debian's.
_PIP = (
    "if python3 -m pip --version >/dev/null 2>&1; then pip='python3 -m pip'; else "
    "python3 -m venv /tmp/pip >/dev/null 2>&1 || { apt-get update -q && "
    f"apt-get install -qy --no-install-recommends python3-venv && {_LISTS} && python3 -m venv --clear /tmp/pip; }}; "
    'pip="/tmp/pip/bin/python3 -m pip --python $(command -v python3)"; fi'
)


@dataclass(frozen=True, slots=True)
class LayerRequest:
    """A layer to be built: its name, what it is built on, what it has, and how its build reaches the packages."""

    image: str
    base: str
    packages: Packages
    install_id: str
    user: str
    network: str | None = None
    pip_index: str | None = None


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """A layer that was built: the engine's id of its base, and what the build printed last."""

    base_id: str
    log: str


def name_of(install_id: str, agent_group_id: str, number: int) -> str:
    """The name of a layer: its own for ever, also where a copy of the install numbers its own."""
    return f"{REPOSITORY}:{install_id.rpartition('_')[2][:12]}-{agent_group_id.rpartition('_')[2]}-{number}"


def dockerfile(request: LayerRequest) -> str:
    """What the engine builds. Raises `ValueError` for a package that cannot be one: it would be run by root."""
    for manager in MANAGERS:
        for package in getattr(request.packages, manager):
            if problem(manager, package) is not None:
                raise ValueError(f"{package!r} is no package")
    lines = [f"FROM {request.base}", "USER 0:0"]
    if request.packages.apt:
        names = shlex.join(request.packages.apt)
        install = f"apt-get install -qy --no-install-recommends {names}"
        lines.append(f"RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive {install} && {_LISTS}")
    if request.packages.pip:
        names = shlex.join(request.packages.pip)
        options = "--no-cache-dir --no-input --disable-pip-version-check --root-user-action=ignore"
        lines += [
            "ARG PIP_INDEX_URL",
            f"RUN set -e; export PIP_BREAK_SYSTEM_PACKAGES=1; {_PIP}; $pip install {options} {names}; rm -rf /tmp/pip",
        ]
    lines += [f'LABEL {INSTALL}="{request.install_id}"', f"USER {request.user}"]
    return "\n".join(lines) + "\n"
