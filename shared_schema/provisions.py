"""What a provider needs besides this program, and the very line that a person types to get it."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

from shared_schema.layout import CONTAINER_SESSION
from shared_schema.providers import VARIANTS

_MODULES = {"model": "pydantic_ai", "claude": "claude_agent_sdk"}
_ROOT = Path(__file__).resolve().parents[1]
_MAKEFILE, _PROJECT = "Makefile", "pyproject.toml"


def is_installed(provider: str) -> bool:
    """Whether this interpreter has what a provider imports."""
    module = _MODULES.get(provider)
    return module is None or find_spec(module) is not None


def how_to_install(provider: str, *, python: str = sys.executable, root: Path = _ROOT) -> str:
    """The line for agents that are plain processes: it works in any folder."""
    return how_to_install_extra(VARIANTS[provider], python=python, root=root)


def how_to_install_extra(extra: str, *, python: str = sys.executable, root: Path = _ROOT) -> str:
    """The line that installs an optional part of this program beside it."""
    if (root / _PROJECT).is_file():
        return f"{shlex.quote(python)} -m pip install -e {shlex.quote(f'{root}[{extra}]')}"
    return f"{shlex.quote(python)} -m pip install {shlex.quote(f'dumbwaiter[{extra}]')}"


def how_to_build(provider: str, *, root: Path = _ROOT) -> str:
    """Returns the line for agents in containers. Inside of one it is not known whether the host has a checkout."""
    variant = VARIANTS[provider]
    return f"make image VARIANT={variant}" if (root / _MAKEFILE).is_file() else f"dumbwaiter image build {variant}"


def missing(provider: str) -> str:
    """The sentence of an agent that lacks what its provider needs."""
    line = how_to_build(provider) if CONTAINER_SESSION.is_dir() else how_to_install(provider)
    return f"what the provider `{provider}` needs is not installed; type this on the host: {line}"
