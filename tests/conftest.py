"""What all tests share: the container engine. Tests that need one are marked `docker`.

Without an engine they are skipped, in one line of the summary; with CI=true in the environment that is a failure.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from host.runtime.docker import DockerRuntime
from host.runtime.protocol import RuntimeUnavailable
from shared_schema import collector
from shared_schema.ids import Prefix, new_id
from tests.watch import Watch

pytest.register_assert_rewrite("tests.support", "tests.channels")  # so that a failed check in there says what differed

# A busy machine is slow to draw and to run examples: that is no failure. The same ones are drawn each time; with
# `--hypothesis-profile searching` `make chaos` draws others.
_STEADY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("searching", _STEADY, max_examples=500)
settings.register_profile("steady", _STEADY, derandomize=True)
settings.load_profile("steady")

_constants_of_loaded_modules = providers._get_local_constants


def _steady_constants() -> Constants:
    """None where inputs are to be the same each time: hypothesis mixes constants from the source of whichever modules
    are loaded into what it draws, so a test drew other inputs after other tests. It has no setting against that;
    tests/unit/test_steady_inputs.py tells when this no longer helps."""
    return Constants() if settings().derandomize else _constants_of_loaded_modules()


providers._get_local_constants = _steady_constants

ROOT = Path(__file__).resolve().parents[1]
PREPARE_SECONDS = 540
TEST_LABEL = "dumbwaiter.test"


@dataclass(frozen=True, slots=True)
class AgentImage:
    """The image under test and what it was built on."""

    name: str
    base: str


collector.wait()  # thousands of tests are imported; below their run begins


def pytest_collection_finish() -> None:
    collector.begin()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Watch(os.dup(2)))  # nothing is captured yet
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup make test` ignores it, and so would all that tests start


@pytest.fixture(autouse=True)
def usual_process() -> Iterator[None]:
    """A command that runs in this process may change its umask, folder and environment; the next test has the usual."""
    folder, environment = Path.cwd(), _environment()
    os.umask(0o022)
    yield
    os.umask(0o022)
    os.chdir(folder)
    for name in {*environment, *_environment()}:
        if name not in environment:
            del os.environ[name]
        elif os.environ.get(name) != environment[name]:
            os.environ[name] = environment[name]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def docker_url() -> str | None:
    return os.environ.get("DOCKER_HOST") or None


@functools.cache
def missing_engine() -> str | None:
    """Why the tests marked `docker` cannot run; None when they can."""

    async def ask() -> str | None:
        runtime = DockerRuntime(new_id(Prefix.INSTALL), docker_url())
        try:
            await runtime.engine_version()
        except RuntimeUnavailable as error:
            return error.what
        finally:
            await runtime.close()
        return None

    return asyncio.run(ask())


def cannot_run(reason: str) -> NoReturn:
    """Skip, or fail where everything must run."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"with CI=true no docker test may be skipped: {reason}", pytrace=False)
    pytest.skip(f"docker tests: {reason}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("docker") is not None and (reason := missing_engine()) is not None:
        cannot_run(reason)


@pytest.fixture(scope="session")
def agent_image() -> AgentImage:
    """The image of agents, built from this checkout."""
    return _built("plain")


@pytest.fixture(scope="session")
def model_image() -> AgentImage:
    """The variant of it that has what the provider `model` needs."""
    return _built("model")


@pytest.fixture(scope="session")
def claude_image() -> AgentImage:
    """The variant of it that has the Claude Agent SDK."""
    return _built("claude")


def _built(variant: str) -> AgentImage:
    made = subprocess.run(
        ["sh", str(ROOT / "tests/docker/prepare.sh"), variant],
        capture_output=True,
        text=True,
        timeout=PREPARE_SECONDS,
        check=False,
    )
    if made.returncode != 0:
        cannot_run(f"the image of agents cannot be built: {made.stderr.strip()[-500:]}")
    name, base = made.stdout.split()
    return AgentImage(name, base)


@pytest.fixture(scope="session")
def script_image(agent_image: AgentImage) -> Iterator[str]:
    """The image of agents, running the session folder's `agent.py` instead: what a hostile agent could do."""
    tag = f"dumbwaiter-test-script:{os.getpid()}"
    dockerfile = f"""
        FROM {agent_image.name}
        USER 0:0
        RUN cp /usr/bin/id /usr/local/bin/setuid-id && chmod 4755 /usr/local/bin/setuid-id
        USER 10001:10001
        LABEL {TEST_LABEL}=1
        ENTRYPOINT ["python3", "/session/agent.py"]
        """
    subprocess.run(
        ["docker", "build", "-q", "-t", tag, "-"], input=dockerfile, text=True, capture_output=True, check=True
    )
    yield tag
    subprocess.run(["docker", "image", "rm", "-f", tag], capture_output=True, check=True)


@pytest.fixture
async def docker_runtime() -> AsyncIterator[DockerRuntime]:
    """A runtime of an install of its own, all of whose containers are removed at the end."""
    runtime = DockerRuntime(new_id(Prefix.INSTALL), docker_url())
    yield runtime
    for handle in await runtime.list():
        await runtime.remove(handle)
    await runtime.close()
