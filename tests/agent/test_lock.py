"""One agent for each session, also should the host be mistaken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from container_agent.lock import alone
from shared_schema.errors import Conflict, FileTrouble


def test_a_second_agent_does_not_begin(tmp_path: Path) -> None:
    first, second = alone(tmp_path / ".lock"), alone(tmp_path / ".lock")
    with first, pytest.raises(Conflict, match="another agent of this session"), second:
        pytest.fail("two agents at once")
    with alone(tmp_path / ".lock"):
        assert (tmp_path / ".lock").exists()


def test_the_lock_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("kept")
    os.symlink(tmp_path / "elsewhere", tmp_path / ".lock")
    with pytest.raises(FileTrouble), alone(tmp_path / ".lock"):
        pytest.fail("it went through a link")
    assert (tmp_path / "elsewhere").read_text() == "kept"
