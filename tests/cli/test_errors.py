"""Bad input: one sentence on standard error, exit status 1 or 2, no traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from host.cli.invocation import Invocation
from shared_schema.errors import Conflict, FileBusy, InvalidValue, NotFound
from tests.cli.conftest import Run
from tests.cli.host import PlayedHost
from tests.cli.test_commands import STATUS


def one_sentence(text: str) -> bool:
    return text.startswith("Error: ") and text.count("\n") == 1 and "Traceback" not in text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "No such command 'nonsense'"),
        ("session nonsense", "No such command 'nonsense'"),
        ("sesion list", "No such command 'sesion', did you mean `dumbwaiter session`: see"),
        ("history search x", "No such command 'search', did you mean `dumbwaiter session search`: see"),
        ("tail x", "No such command 'tail', did you mean `dumbwaiter session tail`: see"),
        ("image list", "No such command 'list': see"),  # nearly every group has one
        ("schedule remvoe x", "No such command 'remvoe', did you mean `dumbwaiter schedule remove`: see"),
        ("session lst", "No such command 'lst', did you mean `dumbwaiter session list`"),
        ("agent-group set a --modl x", "No such option '--modl', did you mean `dumbwaiter agent-group set --model`"),
        ("schedule add a b c --cron d", "No such option '--cron': see `dumbwaiter schedule add --help`"),
        ("--nonsense status", "--nonsense"),
        ("session show", "Missing argument 'SESSION'"),
        ("session show a b", "unexpected extra argument"),
        ("session list --limit many", "'many'"),
        ("session list --limit 0", "--limit"),
        ("session list --status gone", "--status"),
        ("session new", "--messaging-group"),
        ("session undo s -n 0", "-n"),
        ("session prune", "--older-than"),
        ("session prune --older-than 90", "90d"),
        ("wire t:1 a --reset weekly", "--reset"),
        ("wire t:1 a --reset-hour 24", "--reset-hour"),
        ("session tail s -n -1", "-n"),
        ("wire t:1 a --engage pattern", "needs a --pattern"),
        ("wire t:1 a --engage mention --pattern x", "no meaning"),
        ("wire t:1 a --session-mode own", "--session-mode"),
        ("agent-group set a", "nothing to change"),
        ("agent-group set a --memory lots", "'lots' is not a size"),
        ("agent-group set a --cpus 0", "--cpus"),
        ("agent-group set a --cpus 1 --unset cpus", "both given and unset"),
        ("agent-group set a --mount books", "PATH:NAME"),
        ("messaging-group set t:1", "nothing to change"),
        ("inject t:1 hello --file missing", "missing"),
        ("inject t:1", "Missing argument 'TEXT'"),
        ("chat --timeout 0 -m hello", "--timeout"),
        ("chat --json", "--json needs a message"),
        ("run --runtime magic", "--runtime"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(line: str, said: str, run: Run) -> None:
    result = run(*line.split())

    assert result.exit_code == 2
    assert said in result.stderr
    assert one_sentence(result.stderr), result.stderr
    assert "--help`" in result.stderr


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidValue("'x' is not an id"), 2),
        (NotFound("there is no session 'x'", hint="`dumbwaiter session list` shows all"), 1),
        (Conflict("several sessions fit 'x'", hint="write more of the id"), 1),
        (FileBusy("the file cannot be used\nat the moment", where="a\x1b[31mb"), 1),
    ],
)
def test_an_error_of_the_host_is_one_sentence(error: Exception, status: int, run: Run, host: PlayedHost) -> None:
    host.operations["session.show"] = error

    result = run("session", "show", "x")

    assert result.exit_code == status
    assert one_sentence(result.stderr), result.stderr
    assert "\x1b" not in result.stderr


def test_a_bad_setting_is_wrong_usage(run: Run, data: Path) -> None:
    (data / "dumbwaiter.toml").write_text("max_agents = 'many'\n")

    result = run("status", invocation=Invocation(locally=lambda *_: pytest.fail("the operation ran")))

    assert result.exit_code == 2
    assert "'max_agents'" in result.stderr
    assert "dumbwaiter.toml" in result.stderr
    assert one_sentence(result.stderr)


def test_a_malformed_settings_file_is_wrong_usage(run: Run, data: Path) -> None:
    (data / "dumbwaiter.toml").write_text("max_agents = \n")

    result = run("run")

    assert result.exit_code == 2
    assert one_sentence(result.stderr)


def test_run_says_when_the_path_is_too_long_for_a_socket(run: Run, data: Path) -> None:
    result = run("run", "--data", str(data / ("x" * 100)))

    assert result.exit_code == 2
    assert "longer than 107 bytes" in result.stderr
    assert one_sentence(result.stderr)


def test_chat_without_a_host_says_how_to_start_one(run: Run, data: Path) -> None:
    result = run("chat", "-m", "hello")

    assert result.exit_code == 1
    assert result.stderr == f"Error: no host is running for {data}: start it with `dumbwaiter run --data {data}`\n"


def test_a_stale_socket_is_no_host(run: Run, data: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as stale:
        stale.bind(str(data / "host.sock"))

    assert run("session", "list", "--json", invocation=Invocation(locally=lambda *_: [])).stdout == "[]\n"


def test_the_program_itself_ends_with_the_sentence_and_the_status() -> None:
    program = [sys.executable, "-c", "from host.cli import main; main()"]

    result = subprocess.run([*program, "nonsense"], capture_output=True, text=True, check=False)

    assert result.returncode == 2
    assert one_sentence(result.stderr)


def piped(data: Path, line: str) -> subprocess.CompletedProcess[str]:
    """A command whose reader leaves; the status is the command's."""
    program = f"{sys.executable} -c 'from host.cli import main; main()'"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {program} --data {data} {line}"], capture_output=True, text=True, check=False
    )


def test_a_reader_that_leaves_early_is_no_failure(host: PlayedHost, data: Path) -> None:
    host.operations["session.logs"] = {"text": "a line\n" * 100_000}

    result = piped(data, "session logs s | head -1")

    assert (result.returncode, result.stdout, result.stderr) == (0, "a line\n", "")


@pytest.mark.parametrize("line", ["--help", "--version", "session --help", "session list --json", "status", "doctor"])
def test_a_reader_that_reads_nothing_is_no_failure(line: str, host: PlayedHost, data: Path) -> None:
    host.operations |= {"session.list": [], "status": STATUS, "doctor.examine": []}

    result = piped(data, f"{line} | true")

    assert (result.returncode, result.stderr) == (0, "")


def test_an_error_whose_reader_has_left_keeps_its_status(data: Path) -> None:
    assert piped(data, "session show nothing 2>&1 | true").returncode == 1


def test_the_version_is_said(run: Run) -> None:
    result = run("--version")

    assert result.exit_code == 0
    assert result.stdout.startswith("dumbwaiter ")
