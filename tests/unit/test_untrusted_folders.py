"""Folders of an agent are gone through by descriptors: what is put in the place of a folder meanwhile leads nowhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from host.schedules import folder_watch, heartbeat_file
from host.sessions.untrusted_files import entries_below, folder_size, opened_folder

LOOKS = 3_000
LATER = datetime(2040, 1, 1, tzinfo=UTC)
SWAPS = """
import os, sys
os.chdir(sys.argv[1])
print(flush=True)
while True:
    os.rename("a", "kept")
    os.rename("link", "a")
    os.rename("a", "link")
    os.rename("kept", "a")
"""
"""`a` is now a folder, now nothing, now a link to another folder of the machine."""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The folder `a/b` with `ours`, beside a link to a folder of the machine, whose `b` has a large new `theirs`."""
    for folder, name, size in (("workspace/a", "ours", 1), ("machine", "theirs", 3_000_000)):
        (tmp_path / folder / "b").mkdir(parents=True)
        (tmp_path / folder / "b" / name).write_bytes(b"x" * size)
    os.utime(tmp_path / "machine" / "b" / "theirs", (LATER.timestamp(), LATER.timestamp()))
    (tmp_path / "workspace" / "link").symlink_to(tmp_path / "machine")
    return tmp_path / "workspace"


@contextmanager
def swapping(workspace: Path) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", SWAPS, str(workspace)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


def names(workspace: Path) -> set[str]:
    with opened_folder(workspace) as folder:
        return {Path(entry.path).name for entry in entries_below(folder, max_depth=4)}


@pytest.mark.parametrize(
    "is_theirs",
    [
        lambda workspace: any("theirs" in name for name in folder_watch.files(workspace, "a/b", None)),
        lambda workspace: heartbeat_file.look(workspace).changed_at == LATER,
        lambda workspace: (folder_size(workspace) or 0) > 1_000_000,
        lambda workspace: "theirs" in names(workspace),
    ],
    ids=["watched folder", "heartbeat", "size", "entries"],
)
def test_a_folder_that_becomes_a_link_leads_nowhere(workspace: Path, is_theirs: Callable[[Path], bool]) -> None:
    with swapping(workspace):
        assert not any(is_theirs(workspace) for _ in range(LOOKS))


def test_each_folder_comes_before_what_is_in_it_and_as_deep_as_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / ".git").mkdir()
    with opened_folder(tmp_path) as folder:
        found = {e.path: e.depth for e in entries_below(folder, max_depth=1, passed_over={".git"})}
    assert found == {"a": 0, "a/b": 1, "link": 0}
    with opened_folder(tmp_path) as folder:
        paths = [e.path for e in entries_below(folder, max_depth=9)]
    assert paths.index("a") < paths.index("a/b") < min(paths.index("a/b/c"), paths.index("a/b/file"))


def test_a_folder_that_cannot_be_looked_into_has_no_size(tmp_path: Path) -> None:
    (tmp_path / Path(*"abcdefghijklmnopqrst")).mkdir(parents=True)
    assert folder_size(tmp_path) is not None
    with_few_descriptors = (
        "import resource, sys; from pathlib import Path; from host.sessions.untrusted_files import folder_size\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16)); print(folder_size(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", with_few_descriptors, str(tmp_path)], stdout=subprocess.PIPE, check=True
    )
    assert done.stdout.strip() == b"None"
