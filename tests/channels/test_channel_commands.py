"""`dumbwaiter channel`: what a person types and reads, without and with a running host."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from host.operations.doctor import check_channels
from host.settings import load
from host.settings_file import put_table, remove_table
from tests.cli.test_terminal import at_terminal
from tests.support.wait import until

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "canary-77aa01-token"

PIGEON = """
from pydantic import Field, SecretStr
from host.channels.protocol import BaseChannel, ChannelRefused, Identity
from host.channels.registry import ChannelSettings, ChannelType


class Settings(ChannelSettings):
    exclusive = ("token",)
    token: SecretStr = Field(description="the token of the loft")
    loft: str = "here"


class Pigeon(BaseChannel):
    type = "pigeon"

    def __init__(self, settings, context):
        self.name = context.name
        self._token = settings.token.get_secret_value()

    async def check(self):
        if "wrong" in self._token:
            raise ChannelRefused(f"the loft refuses the token {self._token}", hint="ask the keeper")
        return Identity("1", "Walter", ("it may not fly at night",))

    async def start(self, ingest):
        await self.check()

    async def deliver(self, message):
        return "1"

    async def close(self):
        pass


TYPE = ChannelType("pigeon", Settings, Pigeon)
"""


def package(folder: Path) -> Path:
    """An installed package that adds the type `pigeon`."""
    info = folder / "pigeon-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeon\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dumbwaiter.channels]\npigeon = pigeon_channel:TYPE\n")
    (folder / "pigeon_channel.py").write_text(PIGEON)
    return folder


class Typed:
    """The real command line on a data folder, with the type `pigeon` installed."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHONPATH": f"{ROOT}:{package(folder / 'packages')}",
            "DUMBWAITER_RUNTIME": "process",
        }

    def __call__(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        line = [str(Path(sys.executable).with_name("dumbwaiter")), "--data", str(self.data), *arguments]
        return subprocess.run(
            line, env=self.environment, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=120
        )


@pytest.mark.full
def test_a_channel_is_added_checked_listed_and_removed_without_a_host(tmp_path: Path) -> None:
    typed = Typed(tmp_path)
    typed.data.mkdir()
    file = typed.data / "dumbwaiter.toml"
    file.write_text("# of mine\nmax_agents = 3  # few\n")

    added = typed("channel", "add", "support", "--type", "pigeon", "--set", "loft=north", stdin=f"{TOKEN}\n")

    assert added.returncode == 0, added.stderr
    assert "support (Walter) is set up in" in added.stdout
    assert "Still missing: it may not fly at night" in added.stdout
    assert "Next, start the host" in added.stdout
    assert TOKEN not in added.stdout + added.stderr
    assert file.read_text() == (
        f'# of mine\nmax_agents = 3  # few\n\n[channels.support]\ntype = "pigeon"\nloft = "north"\ntoken = "{TOKEN}"\n'
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    checked = typed("channel", "check", "support", "--json")
    assert json.loads(checked.stdout) == {
        "name": "support", "type": "pigeon", "id": "1", "account": "Walter", "missing": ["it may not fly at night"],
    }  # fmt: skip
    (listed,) = json.loads(typed("channel", "list", "--json").stdout)
    assert (listed["name"], listed["state"], listed["reason"]) == ("support", "stopped", None)
    assert "support: it can be made" in typed("doctor").stdout

    again = typed("channel", "add", "support", "--type", "pigeon", stdin="x\n")
    assert (again.returncode, "there is a channel 'support' already" in again.stderr) == (1, True)
    twice = typed("channel", "add", "pigeon", stdin=f"{TOKEN}\n")
    assert (twice.returncode, "the channel 'support' is this bot already" in twice.stderr) == (1, True)
    assert TOKEN not in twice.stderr
    assert typed("channel", "remove", "support").returncode == 0
    assert file.read_text().strip() == "# of mine\nmax_agents = 3  # few"
    assert typed("channel", "remove", "support").returncode == 1


def test_what_the_platform_refuses_is_not_kept_and_shows_no_secret(tmp_path: Path) -> None:
    typed = Typed(tmp_path)

    refused = typed("channel", "add", "pigeon", stdin=f"wrong-{TOKEN}\n")

    assert refused.returncode == 1
    assert refused.stderr.strip() == (
        "Error: the loft refuses the token [secret]: ask the keeper; then type `dumbwaiter channel add pigeon` again, "
        "nothing is kept yet"
    )
    assert not (typed.data / "dumbwaiter.toml").exists()
    assert typed("channel", "add", "pigeon", stdin="\n").returncode == 2
    unknown = typed("channel", "add", "carrier")
    assert (unknown.returncode, "there is no type of channel 'carrier'" in unknown.stderr) == (2, True)


def test_a_token_is_no_argument_wherever_it_is_typed(tmp_path: Path) -> None:
    """Every user of the machine can read what stands behind a command."""
    typed = Typed(tmp_path)

    for arguments in (["pigeon", TOKEN], [f"123:{TOKEN}"], ["pigeon", "--set", f"token={TOKEN}"]):
        refused = typed("channel", "add", *arguments, stdin=f"{TOKEN}\n")
        assert refused.returncode == 2, refused
        assert "secret" in refused.stderr
        assert TOKEN not in refused.stderr
    assert not (typed.data / "dumbwaiter.toml").exists()


def test_what_a_channel_needs_is_asked_for_at_a_terminal(tmp_path: Path) -> None:
    line = ["--data", str(tmp_path), "channel", "add", "github", "--no-check"]
    with at_terminal(*line, columns=200) as terminal:
        terminal.wait_for("github: an access token of the account")
        terminal.type(f"{TOKEN}\n")
        terminal.wait_for("github: where it listens: owner/name")
        terminal.type("acme/rocket, acme/moon\n")
        said = terminal.wait_for("Next, start the host")

    assert "github is set up in" in said
    assert TOKEN not in said
    made = {"token": TOKEN, "repositories": ["acme/rocket", "acme/moon"]}
    assert load({"data": tmp_path}).channels == {"github": made}


async def test_a_running_host_connects_what_is_added_and_says_how_it_is(tmp_path: Path) -> None:
    typed = Typed(tmp_path)
    line = [str(Path(sys.executable).with_name("dumbwaiter")), "--data", str(typed.data), "run"]
    environment = typed.environment | {"DUMBWAITER_CHANNELS__BAD__TYPE": "carrier"}
    with subprocess.Popen(line, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as host:
        try:
            await until(lambda: (typed.data / "host.sock").exists(), "the host listens", 60)
            added = typed("channel", "add", "pigeon", stdin=f"{TOKEN}\n")
            states = {each["name"]: each for each in json.loads(typed("status", "--json").stdout)["channels"]}
            found = json.loads(typed("doctor", "--json").stdout)
        finally:
            host.terminate()
            log = host.communicate(timeout=60)[0].decode()

    assert "It is connected." in added.stdout, added
    assert (states["pigeon"]["state"], states["bad"]["state"]) == ("connected", "refused")
    said = {each["what"].split()[0]: each["ok"] for each in found if each["name"] == "channel"}
    assert said == {"pigeon": True, "bad": False}
    assert "a channel is connected" in log
    assert TOKEN not in log


def test_a_secret_in_the_file_closes_it_to_others(tmp_path: Path) -> None:
    file = tmp_path / "dumbwaiter.toml"
    file.write_text('[channels.pigeon]\nbot_token = "t"\n')
    file.chmod(0o644)

    settings = load({"data": tmp_path})

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "bot_token" not in repr(settings)


def test_tables_beside_the_one_that_changes_stay_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "dumbwaiter.toml"
    text = '# top\n[channels.a]  # first\ntoken = "1"\n\n[upstreams.x]\nurl = "http://x"\n'
    file.write_text(text)
    put_table(file, "channels", "b", {"token": 'q"uote', "rooms": ["1", "2"]})

    assert load({"data": tmp_path}).channels == {"a": {"token": "1"}, "b": {"token": 'q"uote', "rooms": ["1", "2"]}}
    assert "# first" in file.read_text()
    assert remove_table(file, "channels", "b")
    assert not remove_table(file, "channels", "b")
    assert load({"data": tmp_path}).channels == {"a": {"token": "1"}}


def test_doctor_says_of_a_running_host_why_a_channel_is_not_connected(tmp_path: Path) -> None:
    def state(name: str, state: str, reason: str | None, hint: str | None = None) -> dict[str, Any]:
        return {"name": name, "state": state, "since": "S", "reason": reason, "hint": hint, "reconnects": 0}

    channels = [state("a", "connected", None), state("b", "unavailable", "no route"), state("c", "refused", "no", "do")]
    checks = check_channels(load({"data": tmp_path}), lambda: {"channels": channels})

    assert [(each.ok, each.what) for each in checks] == [
        (True, "a is connected since S"),
        (None, "b is unavailable since S: no route"),
        (False, "c is refused since S: no"),
    ]
    assert checks[2].hint == "do"
    assert "dumbwaiter channel check b" in str(checks[1].hint)


def test_what_is_not_installed_is_said_before_a_secret_is_asked_for(tmp_path: Path) -> None:
    broken = tmp_path / "packages" / "telegram"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('there is no telegram here')")
    with at_terminal(
        "--data", str(tmp_path / "data"), "channel", "add", "telegram", packages=broken.parent
    ) as terminal:
        shown = terminal.wait_for("pip install")
        assert "what the type of channel 'telegram' needs is not installed" in " ".join(shown.split())
        assert terminal.leave() == 1
