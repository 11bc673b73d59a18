"""One host per data folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from host.lock import claimed, held, is_held
from shared_schema.errors import Conflict, DumbwaiterError
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import DataLayout

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from pathlib import Path
from host.lock import claimed, held, is_held
from shared_schema.layout import DataLayout
with held(DataLayout(Path(sys.argv[1])), wait_seconds=0):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.communicate()


def take(folder: Path, wait_seconds: float = 0) -> str:
    with held(DataLayout(folder), wait_seconds=wait_seconds):
        return (folder / "host.lock").read_text()


def test_the_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        expected = (
            f"the data folder is in use by process {first.pid} ({tmp_path}): "
            "stop the host that runs there, or choose another folder with --data; to have this one wait and take over: "
            f"`dumbwaiter run --standby --data {tmp_path}`"
        )
        with pytest.raises(Conflict, match=f"^{re.escape(expected)}$"):
            take(tmp_path)
    assert take(tmp_path) == f"{os.getpid()}\n"


def test_the_second_holder_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with held(DataLayout(tmp_path), wait_seconds=0), pytest.raises(Conflict, match=f"by process {os.getpid()} "):
        take(tmp_path)
    assert take(tmp_path) == f"{os.getpid()}\n"


def test_a_holder_that_was_killed_leaves_the_folder_free(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        first.send_signal(signal.SIGKILL)
        first.wait(20)
    assert (tmp_path / "host.lock").read_text() == f"{first.pid}\n"
    assert take(tmp_path) == f"{os.getpid()}\n"


def test_a_longer_text_of_an_earlier_holder_does_not_shine_through(tmp_path: Path) -> None:
    (tmp_path / "host.lock").write_text("999999999999999\n")
    assert take(tmp_path) == f"{os.getpid()}\n"


def test_a_command_that_holds_it_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        assert first.stdin is not None
        with pytest.raises(Conflict):
            take(tmp_path)
        first.stdin.close()
        first.stdin = None
        assert take(tmp_path, wait_seconds=20) == f"{os.getpid()}\n"


def test_waiting_has_an_end(tmp_path: Path) -> None:
    with holder(tmp_path):
        began = time.monotonic()
        with pytest.raises(Conflict):
            take(tmp_path, wait_seconds=0.2)
        assert 0.2 <= time.monotonic() - began < 5


def test_it_is_given_back_when_the_work_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with held(DataLayout(tmp_path), wait_seconds=0):
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        fail()
    assert take(tmp_path) == f"{os.getpid()}\n"


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DumbwaiterError, match=r"the data folder cannot be used: No such file .* choose another with"):
        take(tmp_path / "missing")


def test_only_its_owner_may_read_the_lock_file(tmp_path: Path) -> None:
    take(tmp_path)
    assert (tmp_path / "host.lock").stat().st_mode & 0o777 == 0o600


def test_a_lock_file_that_was_removed_does_not_let_a_second_one_in(tmp_path: Path) -> None:
    with holder(tmp_path):
        (tmp_path / "host.lock").unlink()
        with pytest.raises(Conflict, match="in use by process"):
            take(tmp_path)


def test_whether_it_is_held_can_be_asked_without_taking_it(tmp_path: Path) -> None:
    assert not is_held(DataLayout(tmp_path))
    with holder(tmp_path):
        assert is_held(DataLayout(tmp_path))
    assert not is_held(DataLayout(tmp_path))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="abstract sockets are Linux's")
def test_one_install_is_served_from_one_folder_also_where_two_folders_are_taken_for_it(tmp_path: Path) -> None:
    """Two mounts of one disk image: same ids, same birth times, and locks that know nothing of each other."""
    install_id = new_id(Prefix.INSTALL)
    with claimed(install_id, DataLayout(tmp_path), wait_seconds=0):
        with (
            pytest.raises(Conflict, match=f"served from another folder, by process {os.getpid()} ") as refused,
            claimed(install_id, DataLayout(tmp_path), wait_seconds=0),
        ):
            pass
        copy = f"cp -a {tmp_path} {tmp_path}-copy && dumbwaiter run --data {tmp_path}-copy --copy"
        assert refused.value.hint == (
            f"stop that host (`kill {os.getpid()}`), or make a second install of this folder: `{copy}`"
        )
        with claimed(new_id(Prefix.INSTALL), DataLayout(tmp_path), wait_seconds=0):
            pass
    with claimed(install_id, DataLayout(tmp_path), wait_seconds=0):
        pass
