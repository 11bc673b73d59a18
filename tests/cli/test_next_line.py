"""Whatever a new user must do next is said by the command that failed, with the very line to type."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from host.runtime.image_names import how_to_build
from shared_schema import provisions
from tests.cli.conftest import Run
from tests.support.daemon import COMMAND

LINES = [
    ("chat -m hello", "dumbwaiter run --data {data}"),
    ("status", "`dumbwaiter run --data {data}`"),
    ("doctor", "`dumbwaiter run --data {data}`"),
    ("chat nobody -m hello", "dumbwaiter run --data {data}"),
    ("agent-group show nobody", "dumbwaiter agent-group list"),
    ("agent-group set nobody --model x", "dumbwaiter agent-group list"),
    ("wire cli:none assistant", "dumbwaiter messaging-group add cli:none"),
    ("messaging-group add telegram:1", "`dumbwaiter channel add telegram` sets one up"),
    ("messaging-group add pigeon:1", "dumbwaiter messaging-group add cli:team"),
    ("messaging-group remove cli:none --yes", "dumbwaiter messaging-group list"),
    ("unwire cli:none assistant", "dumbwaiter messaging-group list"),
    ("agent-group set asistant --model x", "did you mean 'assistant'"),
    ("agent-group set assistant --mount /nothing:x", "cannot be mounted: No such file or directory: `ls /`"),
    ("approval deny zzz", "there is no approval zzz: `dumbwaiter approval list`"),
    ("schedule heartbeat assistant 30m --to home", "`dumbwaiter home set assistant cli:terminal` makes one its home"),
    ("wire cli:terminal nobody", "dumbwaiter agent-group list"),
    ("inject cli:none hi", "dumbwaiter messaging-group add cli:none"),
    ("agent-group add other", "dumbwaiter wire cli:terminal other --engage mention"),
    ("session show nothing", "dumbwaiter session list"),
    ("session list --agent-group nobody", "dumbwaiter agent-group list"),
    ("home set nobody cli:terminal", "dumbwaiter agent-group list"),
    ("destination remove assistant nothing", "dumbwaiter destination list"),
    ("init --yes --model anthropic", "dumbwaiter init --model anthropic --key-file FILE"),
    ("agent-group set assistant --provider model", "dumbwaiter agent-group set assistant --model anthropic:"),
    ("agent-group set assistant --provider model --model anthropic:x", "dumbwaiter init --model anthropic"),
    ("agent-group set assistant --provider claude", "dumbwaiter init --model anthropic"),
    ("agent-group add other --provider model --model sonnet", "write anthropic:NAME, openai:NAME"),
    ("run --runtime docker", "dumbwaiter run --data {data} --runtime process`"),
    ("agent-group set assistant --unmount x", "there is none"),
    ("restore {data}/nothing.backup", "`dumbwaiter backup FILE`"),
    ("backup {data}/dumbwaiter.toml/x", "make it, or choose another one"),
    ("nonsense", "dumbwaiter --help"),
    ("node check", "There are no nodes: `dumbwaiter node add NAME ssh://user@host` adds one."),
    ("agent-group add assistant", "choose another name; `dumbwaiter agent-group set assistant` changes that one"),
    ("channel add telegrm", "there is no type of channel 'telegrm', did you mean 'telegram': the types are discord,"),
    ("channel check telegram", "there is no channel 'telegram': `dumbwaiter channel add telegram` sets one up"),
]


@pytest.mark.parametrize(("line", "next_line"), LINES, ids=[line for line, _ in LINES])
def test_the_line_to_type_is_said(
    line: str, next_line: str, run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (data / "dumbwaiter.toml").write_text(f'runtime = "process"\ndocker_host = "unix://{data}/nothing.sock"\n')
    run("init", "--yes", "--model", "echo", "--no-try")

    result = run(*line.format(data=data).split())

    assert next_line.format(data=data) in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert not re.search(r"see docs/\S+\s*$", result.stderr)


def test_a_mistyped_name_is_told_with_the_one_that_is_meant(run: Run, data: Path) -> None:
    (data / "dumbwaiter.toml").write_text('runtime = "process"\n')
    run("init", "--yes", "--model", "echo", "--no-try")
    for line in (
        ("schedule", "add", "assistant", "every day at 7:30", "tea", "--name", "breakfast"),
        ("token", "add", "laptop"),
        ("hook", "add", "pager", "http://127.0.0.1:9"),
    ):
        assert run(*line).exit_code == 0
    for line, meant in (
        ("schedule pause brekfast", "'breakfast'"),
        ("token revoke labtop", "'laptop'"),
        ("hook remove pagr", "'pager'"),
        ("hook test pagr", "'pager'"),
    ):
        result = run(*line.split())
        assert f"did you mean {meant}" in result.stderr, line
        assert result.exit_code == 1


def test_what_a_provider_lacks_is_told_for_processes_in_a_checkout(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()

    line = provisions.how_to_install("model", python="/p y/python", root=tmp_path)

    assert line == f"'/p y/python' -m pip install -e '{tmp_path}[model]'"


def test_what_a_provider_lacks_is_told_for_processes_of_an_installed_package(tmp_path: Path) -> None:
    line = provisions.how_to_install("claude", root=tmp_path)

    assert line == f"{sys.executable} -m pip install 'dumbwaiter[claude]'"


def test_what_a_provider_lacks_is_told_for_containers(tmp_path: Path) -> None:
    assert provisions.how_to_build("model", root=tmp_path) == "dumbwaiter image build model"
    (tmp_path / "Makefile").touch()
    assert provisions.how_to_build("model", root=tmp_path) == "make image VARIANT=model"


def test_an_image_of_another_name_is_built_under_that_name(tmp_path: Path) -> None:
    (tmp_path / "Makefile").touch()
    assert how_to_build("dumbwaiter-agent:0.1.0-model", tmp_path) == "run `make image VARIANT=model`"
    assert how_to_build("mine:1-model", tmp_path) == "run `make image VARIANT=model IMAGE=mine:1-model`"
    assert how_to_build("mine:1", tmp_path) == "run `make image IMAGE=mine:1`"


@pytest.mark.parametrize("line", ["run", "agent-group add other"])
def test_a_folder_of_other_things_that_is_named_as_the_data_folder_stays_as_it_is(line: str, data: Path) -> None:
    (data / "notes.md").touch()
    data.chmod(0o755)
    command = [COMMAND, "--data", str(data), *line.split()]

    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert result.returncode == 2
    assert f"`touch {data}/dumbwaiter.toml`" in result.stderr
    assert [path.name for path in data.iterdir()] == ["notes.md"]
    assert stat.S_IMODE(data.stat().st_mode) == 0o755
