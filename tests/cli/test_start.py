"""A command loads what it needs and nothing more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from host.daemon import framed
from tests.cli.host import PlayedHost

HEAVY = ("docker", "aiohttp", "prompt_toolkit", "pydantic", "rich", "asyncio", "sqlite3")
PROGRAM = """
import sys
from host.cli.root import root
try:
    root()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("line", ["--version", "--help", "session list"])
def test_no_heavy_module_is_loaded(line: str, host: PlayedHost, data: Path) -> None:
    host.operations["session.list"] = []

    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--data", str(data), *line.split()], capture_output=True, text=True, check=True
    )

    loaded = {name.split(".")[0] for name in result.stderr.split()}
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_warning_is_framed_at_the_width_of_the_terminal(columns: int) -> None:
    text = "NO ISOLATION: agents run as plain processes and can read and change everything their user can"

    lines = framed(text, columns).splitlines()

    assert max(map(len, lines)) <= min(columns, 100)
    assert set(lines[0]) == set(lines[-1]) == {"!"}
    assert " ".join(line.removeprefix("! ") for line in lines[1:-1]) == text
