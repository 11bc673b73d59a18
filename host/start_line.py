"""The line with which a person starts a host on a data folder."""

from __future__ import annotations

import shlex
from pathlib import Path

from host.runtime.sources import SOURCE_ROOT


def start_line(data: Path, *options: str) -> str:
    """What to type in this terminal, in backticks. `options` are more of `run`'s, such as `--runtime process`."""
    is_usual = data.absolute() == Path("data").absolute()
    if is_usual and not options and (SOURCE_ROOT / "Makefile").is_file() and Path.cwd() == SOURCE_ROOT:
        return "`make run`"
    folder = () if is_usual else ("--data", str(data))
    return f"`{shlex.join(['dumbwaiter', 'run', *folder, *options])}`"
