from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from host.cli.invocation import Invocation
from host.cli.root import root
from tests.cli.host import PlayedHost, playing

Run = Callable[..., Result]


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder with a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="dw-") as folder:
        yield Path(folder)


@pytest.fixture
def host(data: Path) -> Iterator[PlayedHost]:
    """A host that listens on the data folder's socket."""
    with playing(data / "host.sock") as played:
        yield played


@pytest.fixture
def run(data: Path) -> Run:
    """Run a command line on the data folder, in this process."""
    # Click runs tests without a terminal; what the developer has set must not reach the commands.
    environment = {name: None for name in os.environ if name.startswith("DUMBWAITER_")}

    def run(*arguments: str, stdin: str | None = None, invocation: Invocation | None = None) -> Result:
        invocation = invocation or Invocation()
        return CliRunner(env=environment).invoke(root, ["--data", str(data), *arguments], input=stdin, obj=invocation)

    return run
