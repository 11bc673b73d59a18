"""What `dumbwaiter init` does beside asking: installing what a model needs, and a first message."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from types import TracebackType

import click

from host.api.client import NoHost
from host.cli.conversation import Conversation
from host.cli.invocation import Invocation
from host.cli.plain import plain
from host.cli.root import report
from shared_schema.errors import DumbwaiterError
from shared_schema.provisions import how_to_install, is_installed

Say = Callable[[str], None]

_START_SECONDS = 60.0
_ANSWER_SECONDS = 120.0
_HELLO = "Say hello in one short sentence."
_PROGRAM = "from host.cli import main; main()"


def provide(invocation: Invocation, provider: str, agrees: Callable[[str], bool], say: Say) -> None:
    """See to it that a provider has what it needs: packages, or an image. `agrees` to a question in words."""
    if _runtime(invocation) == "docker":
        _build(invocation, provider, agrees, say)
        return
    if is_installed(provider):
        return
    line = how_to_install(provider)
    say("The libraries for models are not installed yet.")
    if not agrees("Install them now? It takes some minutes."):
        say(f"Before it can answer, type: {line}")
        return
    install(line)


def install(line: str) -> None:
    """Carry out a line of pip's, which says what it does on standard error. Raises `DumbwaiterError`."""
    click.echo(f"$ {line}", err=True)
    # What is made in the data folder is for its owner alone, and this process may have a umask for that by now.
    # Libraries are for the user of the agents as well, who is another one where the host is root.
    command = [*shlex.split(line), "--disable-pip-version-check", "--progress-bar=off"]
    if subprocess.run(command, check=False, umask=0o022, stdout=sys.stderr.fileno()).returncode:
        raise DumbwaiterError("the libraries for models could not be installed", hint=f"type it yourself: {line}")


class TrialHost:
    """A host for as long as the block lasts, where none runs already."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> None:
        if _runs(self._invocation):
            return
        click.echo("Starting the host for a moment …", err=True)
        command = [sys.executable, *_itself(), "--data", str(self._invocation.data), "run", "--log-format", "json"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        deadline = time.monotonic() + _START_SECONDS
        while not _runs(self._invocation):
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self._end().strip().splitlines()
                raise DumbwaiterError(
                    f"the host does not start: {said[-1] if said else 'it says nothing'}", hint="`dumbwaiter doctor`"
                )
            time.sleep(0.1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> str:
        if self._process is None:
            return ""
        process, self._process = self._process, None
        process.terminate()
        _, said = process.communicate()
        return said.decode("utf-8", "replace")


def say_hello(invocation: Invocation, agent: str, say: Say) -> bool:
    """Say hello to an agent, and print what it answers; whether it did. Why it did not is printed as well."""
    say(f"> {_HELLO}")
    conversation = Conversation(invocation.client(), agent_group=agent, session=None, seconds=_ANSWER_SECONDS)
    try:
        with closing(conversation.ask(_HELLO)) as replies:
            for reply in replies:
                if not reply.from_host:
                    say(plain(reply.text))
    except DumbwaiterError as error:
        report(error)
        return False
    return True


def _build(invocation: Invocation, provider: str, agrees: Callable[[str], bool], say: Say) -> None:
    import asyncio

    from host.operations.images import build
    from host.runtime.docker import DockerRuntime
    from host.runtime.image_names import how_to_build, image_for

    settings = invocation.settings()
    image = image_for(provider, settings.image)

    async def is_there() -> bool:
        docker = DockerRuntime("ins_0000000000000000", settings.docker_host)  # starts nothing: the id is never used
        try:
            return await docker.image_labels(image) is not None
        finally:
            await docker.close()

    if asyncio.run(is_there()):
        return
    if not agrees(f"The image {image} for models is not built yet. Build it now? It takes a minute or two."):
        say(f"Before it can answer, {how_to_build(image)}.")
        return
    click.echo(f"Building {image} …", err=True)
    asyncio.run(build(settings, provider))


def _runtime(invocation: Invocation) -> str:
    """What will run agents: what the running host says, or else the settings and whether an engine answers."""
    import asyncio

    with suppress(NoHost):
        return str(invocation.client().call("status", {})["host"]["runtime"])
    settings = invocation.settings()
    if settings.runtime != "auto":
        return settings.runtime

    async def answers() -> bool:
        from host.runtime.docker import DockerRuntime
        from host.runtime.engine_facts import require_suitable
        from host.runtime.protocol import RuntimeUnavailable
        from host.settings import engine_address

        docker = DockerRuntime("ins_0000000000000000", engine_address(settings))
        try:
            require_suitable(await docker.facts(), settings.oci_runtime)
        except RuntimeUnavailable:
            return False
        finally:
            await docker.close()
        return True

    return "docker" if asyncio.run(answers()) else "process"


def _runs(invocation: Invocation) -> bool:
    try:
        invocation.client().call("status", {})
    except DumbwaiterError:
        return False
    return True


def _itself() -> list[str]:
    """How this interpreter runs this program: as it was called, or by its module."""
    called = sys.argv[0]
    return [called] if called.endswith(("/dumbwaiter", "/dw")) else ["-c", _PROGRAM]
