"""An install is a folder on a file system: a copy leaves the original's agents alone, a moved folder goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.daemon import COMMAND, Daemon, daemon
from tests.support.wait import until_sync

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def copied(source: Path, target: Path) -> Path:
    subprocess.run(["cp", "-a", source, target], check=True)
    return target


def refused(data: Path, *options: str, host: Daemon) -> str:
    """What a host says that does not start."""
    done = subprocess.run(
        [COMMAND, "run", "--data", data, *options], capture_output=True, text=True, timeout=60, env=host.environment
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


@contextmanager
def started(data: Path, *options: str) -> Iterator[Daemon]:
    """A host that was started with options of `run`."""
    host = Daemon(data, **{"TITLE_SECONDS": "3600"})
    try:
        host.start(*options)
        yield host
    finally:
        host.close()


def install_of(host: Daemon) -> str:
    return str(host.rows("SELECT id FROM install ORDER BY rowid DESC LIMIT 1")[0]["id"])


def test_a_copy_of_a_running_hosts_folder_is_asked_about_and_touches_nothing_of_the_original(tmp_path: Path) -> None:
    """FAILURES 49."""
    with daemon(tmp_path / "data") as original:
        original.call("agent_group.set", name="assistant", provider="scripted")
        asked = original.run("inject", "cli:terminal", "think 3").stdout.strip()
        until_sync(lambda: original.rows("SELECT 1 FROM turns WHERE status = 'running'"), "the turn runs")
        agents = original.agents()
        copy = copied(original.data, tmp_path / "copy")

        said = refused(copy, host=original)
        assert f"is a copy of {original.data}, where a host runs" in said
        assert f"--data {copy} run --copy`" in said
        assert "it was not moved" in refused(copy, "--moved", host=original)
        assert original.agents() == agents

        with started(copy, "--copy") as second:
            assert install_of(second) != install_of(original)
            assert second.agents() == []
            assert second.rows("SELECT status FROM ingest WHERE message_id = ?", asked) == [{"status": "cancelled"}]
            assert second.run("chat", "-m", "hello").stdout.strip() == "scripted: hello"
            second.stop()
            second.start()  # it is not asked again
        assert original.agents() == agents
        original.settle()
        assert original.rows("SELECT status, tries FROM ingest") == [{"status": "completed", "tries": 0}]


@pytest.mark.full
def test_a_copy_of_a_killed_hosts_folder_leaves_the_agents_that_go_on(tmp_path: Path) -> None:
    """FAILURES 49."""
    with daemon(tmp_path / "data") as original:
        original.call("agent_group.set", name="assistant", provider="scripted")
        original.run("inject", "cli:terminal", "think 4")
        until_sync(lambda: original.rows("SELECT 1 FROM turns WHERE status = 'running'"), "the turn runs")
        original.kill()
        agents = original.agents()
        assert agents
        copy = copied(original.data, tmp_path / "copy")
        assert f"is a copy of {original.data} (" in refused(copy, host=original)
        listed = subprocess.run([COMMAND, "--data", copy, "session", "list", "--json"], capture_output=True, text=True)
        (session,) = json.loads(listed.stdout)
        stopping = ["session", "stop", session["id"]]
        subprocess.run([COMMAND, "--data", copy, *stopping], capture_output=True, check=False, env=original.environment)
        with started(copy, "--copy"):
            pass
        assert original.agents() == agents
        original.start()
        original.settle()
        assert original.rows("SELECT status, tries FROM ingest") == [{"status": "completed", "tries": 0}]


@pytest.mark.full
def test_a_folder_that_was_renamed_goes_on_without_a_question(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as host:
        host.run("chat", "-m", "hello")
        install = install_of(host)
        host.stop()
        with daemon(host.data.rename(tmp_path / "renamed")) as moved:
            assert install_of(moved) == install
            assert moved.run("chat", "-m", "again").stdout == "again\n"


@pytest.mark.full
def test_a_folder_that_came_from_another_file_system_is_asked_about_once(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as host:
        install = install_of(host)
        host.stop()
        arrived = copied(host.data, tmp_path / "arrived")
        shutil.rmtree(host.data)  # what `mv` does between file systems
        said = refused(arrived, host=host)
        assert f"was last used as {host.data}" in said
        assert f"--data {arrived} run --moved`" in said
        with started(arrived, "--moved") as moved:
            assert install_of(moved) == install
            moved.stop()
            moved.start()


@pytest.mark.full
@needs_root
def test_two_hosts_never_serve_one_folder_through_two_mounts(tmp_path: Path) -> None:
    bound, merged = tmp_path / "bound", tmp_path / "merged"
    for folder in (bound, merged, tmp_path / "upper", tmp_path / "work"):
        folder.mkdir()
    with daemon(tmp_path / "data") as host:
        mounts = [
            ["mount", "--bind", host.data, bound],
            ["mount", "-t", "overlay", "overlay", "-o",
             f"lowerdir={host.data},upperdir={tmp_path}/upper,workdir={tmp_path}/work", merged],
        ]  # fmt: skip
        made = []
        try:
            for line in mounts:
                if subprocess.run(line, capture_output=True, check=False).returncode != 0:
                    pytest.skip("nothing can be mounted here")
                made.append(line[-1])
            assert host.process is not None
            assert f"in use by process {host.process.pid}" in refused(bound, host=host)
            assert f"is a copy of {host.data}, where a host runs" in refused(merged, host=host)
            host.layout.lock.unlink()
            assert "in use by process" in refused(host.data, host=host), "also without its lock file"
            assert host.run("chat", "-m", "hello").stdout.startswith("hello\n")
        finally:
            for target in made:
                subprocess.run(["umount", target], check=True)


AS_THE_USER = """
import os
from pathlib import Path
from host import install
from shared_schema.errors import DumbwaiterError
from shared_schema.layout import DataLayout
layout = DataLayout(Path({data!r}))
os.setgroups([])
os.setgid(4242)
os.setuid(4242)
try:
    install.require_own(layout)
    install.require_own_content(layout)
except DumbwaiterError as error:
    print(error.what, error.hint)
"""


@needs_root
def test_a_folder_that_was_once_used_by_root_tells_its_user_the_line_that_gives_it_back() -> None:
    """FAILURES 52."""

    def said() -> str:
        code = AS_THE_USER.format(data=str(data))  # the user changes after the imports, which need not be its to read
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
        return done.stdout

    with tempfile.TemporaryDirectory(prefix="dw-") as folder:
        Path(folder).chmod(0o755)
        data = Path(folder, "data")
        with daemon(data) as host:
            host.run("chat", "-m", "hello")
        line = f"`sudo chown -R 4242:4242 '{data}'`"
        assert "the data folder belongs to 'root' (uid 0), and this is uid 4242" in said()
        assert line in said()
        os.chown(data, 4242, 4242)  # as somebody mends what the sentence before named, and no more
        assert "in the data folder belong to 'root' (uid 0), and this host runs as uid 4242" in said()
        assert line in said()
        subprocess.run(["chown", "-R", "4242:4242", data], check=True)
        assert said() == ""
