"""What a host leaves in the run folder when it is killed between making a file there and recording the process."""

from __future__ import annotations

import sys
from pathlib import Path

from host.runtime.process import ProcessRuntime
from shared_schema.ids import Prefix, new_id
from tests.runtime.agents import EXITS, session_folder, specification

SCRIPT = "import os, runpy; runpy.run_path(os.environ['DUMBWAITER_SESSION'] + '/agent.py', run_name='__main__')"


async def test_the_next_host_clears_away_what_was_never_recorded_and_nothing_else(tmp_path: Path) -> None:
    install, folder = new_id(Prefix.INSTALL), tmp_path / "run"
    command = [sys.executable, "-c", SCRIPT]
    handle = await ProcessRuntime(install, folder, command=command).start(
        specification(session_folder(tmp_path, EXITS), install)
    )
    recorded = {path.name for path in folder.iterdir()}
    unrecorded = [f"{new_id(Prefix.RUN)}.log", f"{new_id(Prefix.RUN)}.half"]
    for name in [*unrecorded, "somebody's notes.log"]:
        (folder / name).touch()

    following = ProcessRuntime(install, folder, command=command)
    assert await following.list() == [handle]
    assert {path.name for path in folder.iterdir()} == recorded | {"somebody's notes.log"}
    await following.remove(handle)
    assert {path.name for path in folder.iterdir()} == {"somebody's notes.log"}


async def test_what_is_just_being_started_is_not_cleared_away(tmp_path: Path) -> None:
    """The first look at the folder clears it; from then on its files may be of this host."""
    runtime = ProcessRuntime(new_id(Prefix.INSTALL), tmp_path)
    assert await runtime.list() == []
    being_made = tmp_path / f"{new_id(Prefix.RUN)}.log"
    being_made.touch()
    assert await runtime.list() == []
    assert being_made.exists()
