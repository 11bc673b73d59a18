"""The host as people run it: start, talk, stop, pull the plug, start again."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import termios
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shared_schema.signals import ending_signals
from tests.support.daemon import COMMAND, Daemon, daemon
from tests.support.dispositions import not_ignored
from tests.support.wait import until_sync


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One for the tests that neither stop it nor count what is in it."""
    with daemon(tmp_path_factory.mktemp("host") / "data") as host:
        yield host


def test_a_new_data_folder_gets_an_agent_that_answers_at_the_terminal(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as host:
        (agent,) = host.json("agent-group", "list")
        assert agent["name"] == "assistant"
        first = host.run("chat", "-m", "hello")
        assert first.returncode == 0, first.stderr
        assert first.stdout.startswith("hello\n")
        assert host.run("chat", "-m", "once more").stdout == "once more\n"


def test_a_failed_turn_is_one_clear_sentence(host: Daemon) -> None:
    host.call("agent_group.set", name="assistant", provider="scripted")
    failed = host.run("chat", "-m", "fail the moon is in the way")
    assert failed.returncode == 1
    assert "the moon is in the way" in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_the_plug_is_pulled_on_the_host_in_a_turn_and_the_answer_comes_once(tmp_path: Path) -> None:
    """FAILURES 11: the agent goes on, and the next host takes it over."""
    with daemon(tmp_path / "data") as host:
        host.call("agent_group.set", name="assistant", provider="scripted")
        message = host.run("inject", "cli:terminal", "think 1").stdout.strip()
        until_sync(lambda: host.agents(), "the agent runs")
        agents = host.agents()
        until_sync(lambda: _acks(host) == {message: "processing"}, "the turn runs")
        host.kill()
        until_sync(lambda: _acks(host) == {message: "completed"}, "the agent finished alone")
        assert host.agents() == agents
        host.start()
        host.settle()
        assert host.agents() == agents, "the agent was taken over, not replaced"
        assert _answers(host) == [message]
        assert host.rows("SELECT tries FROM ingest") == [{"tries": 0}]


@pytest.mark.full
def test_host_and_agent_die_together_and_the_message_is_answered_once(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as host:
        host.call("agent_group.set", name="assistant", provider="scripted")
        message = host.run("inject", "cli:terminal", "think 0.5").stdout.strip()
        until_sync(lambda: _acks(host) == {message: "processing"}, "the turn runs")
        host.kill()
        host.kill_agents()
        until_sync(lambda: not host.agents(), "the agent is dead")
        host.start()
        host.settle()
        assert _answers(host) == [message]
        assert host.rows("SELECT status, tries FROM ingest") == [{"status": "completed", "tries": 1}]


@pytest.mark.full
def test_work_that_was_done_is_not_done_again_after_a_restart(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as host:
        host.run("chat", "-m", "one")
        host.settle()
        host.kill()
        host.kill_agents()
        host.start()
        host.run("chat", "-m", "two")
        host.settle()
        assert [row["content"].count("echo:") for row in host.rows("SELECT content FROM deliveries")] == [1, 0]
        assert len(host.rows("SELECT 1 FROM turns")) == 2


def test_a_message_accepted_without_a_host_is_answered_by_the_next(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as host:
        host.run("chat", "-m", "one")
        host.settle()
        host.stop()
        assert not host.agents(), "a host that is told to stop takes its agents along"
        message = host.run("inject", "cli:terminal", "are you there").stdout.strip()
        (session,) = host.json("session", "list")
        with closing(sqlite3.connect(Path(session["path"]) / "inbound.db")) as inbound:
            assert inbound.execute("SELECT status FROM messages_in WHERE id = ?", (message,)).fetchone() == ("pending",)
        host.start()
        host.settle()
        assert _answers(host)[-1] == message


@pytest.mark.full
def test_a_host_that_is_told_to_stop_gives_back_the_turn(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as host:
        host.call("agent_group.set", name="assistant", provider="scripted")
        message = host.run("inject", "cli:terminal", "think 3").stdout.strip()
        until_sync(lambda: _acks(host) == {message: "processing"}, "the turn runs")
        assert host.stop() == 0
        assert _acks(host) == {}
        host.start()
        host.settle()
        assert _answers(host) == [message]
        assert host.rows("SELECT tries FROM ingest") == [{"tries": 0}], "giving back costs nothing"


def test_commands_print_the_same_with_and_without_a_host(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as host:
        host.run("chat", "-m", "one")
        host.settle()
        (session,) = host.json("session", "list")
        commands = [
            ("agent-group", "show", "assistant"),
            ("wirings",),
            ("session", "transcript", session["id"]),
        ]
        with_host = [host.run(*command).stdout for command in commands]
        host.stop()
        assert [host.run(*command).stdout for command in commands] == with_host
        assert all(with_host)


def test_an_agent_that_a_dead_host_left_can_be_stopped_and_deleted_without_one(tmp_path: Path) -> None:
    """FAILURES 20, 34: nothing is left running, and nothing of it is left on disk."""
    with daemon(tmp_path / "data") as host:
        host.run("chat", "-m", "one")
        host.settle()
        (session,) = host.json("session", "list")
        host.kill()
        assert host.agents()
        deleted = host.json("session", "delete", session["id"], "--for-good", "--yes")
        assert deleted["session_id"] == session["id"]
        assert not host.agents()
        assert not Path(session["path"]).exists()
        host.start()
        assert host.json("session", "list") == []


class TestBadInput:
    """Each is one sentence that says what is wrong and what to do; no traceback, nothing lost."""

    def refused(self, host: Daemon, *arguments: str, status: int, says: str) -> None:
        done = host.run(*arguments)
        assert done.returncode == status, done
        assert says in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) <= 3

    def test_a_folder_with_a_running_host(self, host: Daemon) -> None:
        assert host.process is not None
        self.refused(host, "run", status=1, says=f"in use by process {host.process.pid}")
        assert host.run("chat", "-m", "still here").returncode == 0

    def test_a_folder_of_a_newer_version(self, tmp_path: Path) -> None:
        with daemon(tmp_path / "data") as host:
            host.stop()
            with closing(sqlite3.connect(host.layout.central)) as connection:
                connection.execute("PRAGMA user_version = 99")
            before = host.layout.central.read_bytes()
            self.refused(host, "run", status=1, says="schema version 99")
            self.refused(host, "session", "list", status=1, says="schema version 99")
            assert host.layout.central.read_bytes() == before

    @pytest.mark.parametrize("command", [("run",), ("agent-group", "add", "helper")])
    def test_a_folder_that_cannot_be_made(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        (tmp_path / "file").write_text("in the way")
        self.refused(Daemon(tmp_path / "file" / "data"), *command, status=1, says="the data folder cannot be used")

    def test_a_central_db_that_is_no_database(self, tmp_path: Path) -> None:
        host = Daemon(tmp_path)
        host.layout.central.write_bytes(b"not a database" * 1000)
        self.refused(host, "run", status=1, says="central.db")
        assert host.layout.central.read_bytes() == b"not a database" * 1000

    def test_an_engine_that_is_not_there(self, tmp_path: Path) -> None:
        host = Daemon(tmp_path, RUNTIME="docker", DOCKER_HOST=f"unix://{tmp_path}/no.sock")
        self.refused(host, "run", status=1, says="docker")

    def test_a_malformed_setting(self, tmp_path: Path) -> None:
        self.refused(Daemon(tmp_path, MAX_AGENTS="many"), "run", status=2, says="max_agents")
        self.refused(Daemon(tmp_path, MAX_AGENT="3"), "run", status=2, says="max_agent")

    def test_a_malformed_settings_file(self, tmp_path: Path) -> None:
        host = Daemon(tmp_path)
        host.layout.settings.write_text("max_agents = = 3")
        self.refused(host, "run", status=2, says="dumbwaiter.toml")

    def test_a_socket_path_that_is_too_long(self, tmp_path: Path) -> None:
        self.refused(Daemon(tmp_path / ("d" * 100)), "run", status=2, says="socket")

    def test_unknown_names_and_malformed_ids(self, host: Daemon) -> None:
        self.refused(host, "agent-group", "show", "nobody", status=1, says="no agent group 'nobody'")
        self.refused(host, "agent-group", "add", "No Good", status=2, says="cannot be a name")
        self.refused(host, "agent-group", "set", "assistant", "--provider", "oracle", status=2, says="provider")
        self.refused(host, "messaging-group", "add", "nothing", status=2, says="channel_type")
        self.refused(host, "messaging-group", "add", "fax:1", status=2, says="no channel 'fax'")
        self.refused(host, "inject", "cli:nowhere", "hi", status=1, says="no messaging group")
        self.refused(host, "session", "show", "ses_xyz", status=1, says="no session")
        self.refused(host, "session", "show", "../../etc", status=1, says="no session")
        self.refused(host, "wire", "cli:terminal", "assistant", "--pattern", "(", status=2, says="cannot be used")


def test_a_deleted_session_leaves_nothing_of_what_was_said(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as host:
        host.run("chat", "-m", "a secret")
        (session,) = host.json("session", "list")
        host.json("session", "delete", session["id"], "--for-good", "--yes")
        for table, column in (("terminal_mailbox", "content"), ("deliveries", "content"), ("ingest", "content")):
            assert not [row for row in host.rows(f"SELECT {column} AS c FROM {table}") if "secret" in row["c"]]
        assert not Path(session["path"]).exists()
        assert not host.agents()


QUICK_SIGNALS = [signal.SIGINT]
OTHER_SIGNALS = sorted(ending_signals() - {*QUICK_SIGNALS, signal.SIGTERM})


@pytest.mark.parametrize("number", [*QUICK_SIGNALS, *(pytest.param(n, marks=pytest.mark.full) for n in OTHER_SIGNALS)])
def test_every_signal_that_ends_a_process_stops_the_host_in_order(tmp_path: Path, number: int) -> None:
    with not_ignored(number), daemon(tmp_path / "data") as host:
        host.call("agent_group.set", name="assistant", provider="scripted")
        message = host.run("inject", "cli:terminal", "think 30").stdout.strip()
        until_sync(lambda: _acks(host) == {message: "processing"}, "the turn runs")
        assert host._end(number) == 0
        assert not host.agents()
        assert _acks(host) == {}, "the agent gave its turn back"
        assert not host.layout.socket.exists()


def test_a_host_whose_terminal_is_closed_stops_in_order(tmp_path: Path) -> None:
    host = Daemon(tmp_path / "data", LOG_FORMAT="text")
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [COMMAND, "run", "--data", str(host.data)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=host.environment,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # the terminal is its own, as in a window
    ) as process:
        os.close(theirs)
        host.process = process  # type: ignore[assignment]
        try:
            until_sync(host._is_ready, "the host is ready")
            assert host.run("chat", "-m", "one").returncode == 0
            assert host.agents()
            os.close(ours)  # the window is gone: SIGHUP, and every write to it fails
            assert process.wait(60) == 0
        finally:
            process.kill()  # one that does not end would be waited for without end
    host.process = None
    assert not host.agents()


def test_a_host_that_was_told_to_ignore_hang_ups_goes_on(tmp_path: Path) -> None:
    """`nohup dumbwaiter run &`"""
    host = Daemon(tmp_path / "data")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        host.start()
        assert host.process is not None
        host.process.send_signal(signal.SIGHUP)
        assert host.run("chat", "-m", "still here").returncode == 0
    finally:
        signal.signal(signal.SIGHUP, before)
        host.close()


def test_the_socket_is_for_the_owner_alone(host: Daemon) -> None:
    assert oct(os.stat(host.layout.socket).st_mode & 0o777) == "0o600"
    assert oct(os.stat(host.layout.central).st_mode & 0o777) == "0o600"


def _acks(host: Daemon) -> dict[str, str]:
    """What the only session's agent acknowledged."""
    folders = list(host.layout.sessions.glob("*/ses_*"))
    if len(folders) != 1 or not (folders[0] / "outbound.db").exists():
        return {}
    with closing(sqlite3.connect(f"file:{folders[0] / 'outbound.db'}?mode=ro", uri=True)) as outbound:
        return dict(outbound.execute("SELECT message_id, status FROM processing_ack"))


def _answers(host: Daemon) -> list[str]:
    """The messages that were answered, in the order of their answers."""
    return [row["in_reply_to"] for row in host.rows("SELECT in_reply_to FROM terminal_mailbox ORDER BY position")]
