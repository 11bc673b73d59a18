"""Settings come from four places; what is unknown or malformed is named, with the place it was set in."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from host.settings import PREFIX, BadSetting, Settings, load

ROOT = Path(__file__).resolve().parents[2]


def loaded(
    data: Path | None, environment: Mapping[str, str] | None = None, folder: Path | None = None, **options: Any
) -> dict[str, Any]:
    """The settings as a process with that environment, in that folder, sees them, or its error."""
    before, here = dict(os.environ), Path.cwd()
    try:
        for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
            del os.environ[name]
        os.environ.update(environment or {})
        os.chdir(folder or here)
        settings = load(options if data is None else {"data": str(data), **options})
    except BadSetting as error:
        return {"error": str(error)}
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
    found: dict[str, Any] = json.loads(settings.model_dump_json())
    return found


def toml(data: Path, text: str) -> Path:
    path = data / "dumbwaiter.toml"
    path.write_text(text)
    return path


def test_without_anything_set_the_defaults_hold(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    assert settings.pop("data") == str(tmp_path)
    defaults = {name: field.default for name, field in Settings.model_fields.items() if name != "data"}
    assert settings == defaults | {
        "web": defaults["web"].model_dump(mode="json"),
        "nodes": [],
        "kubernetes": defaults["kubernetes"].model_dump(mode="json"),
        "telemetry": defaults["telemetry"].model_dump(mode="json"),
    }


def test_each_source_wins_over_the_next(tmp_path: Path) -> None:
    toml(tmp_path, 'max_agents = 3\nidle_seconds = 30\nmax_batch = 33\nlog_level = "debug"\n')
    environment = {"DUMBWAITER_MAX_AGENTS": "2", "DUMBWAITER_IDLE_SECONDS": "20"}
    settings = loaded(tmp_path, environment, max_agents=1, log_level=None)
    assert (settings["max_agents"], settings["idle_seconds"], settings["max_batch"]) == (1, 20.0, 33)
    assert (settings["log_level"], settings["max_files"]) == ("debug", 20)


def test_the_data_folder_comes_from_the_option_the_environment_or_is_data(tmp_path: Path) -> None:
    environment = {"DUMBWAITER_DATA": str(tmp_path / "from environment")}
    assert loaded(tmp_path / "option", environment)["data"] == str(tmp_path / "option")
    assert loaded(None, environment)["data"] == str(tmp_path / "from environment")
    assert loaded(None, {"DUMBWAITER_DATA": "relative"}, folder=tmp_path)["data"] == str(tmp_path / "relative")
    assert loaded(None, folder=tmp_path)["data"] == str(tmp_path / "data")


def test_the_file_is_that_of_the_data_folder_that_was_chosen(tmp_path: Path) -> None:
    toml(tmp_path, "max_agents = 3\n")
    assert loaded(None, {"DUMBWAITER_DATA": str(tmp_path)})["max_agents"] == 3


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("DUMBWAITER_NOPE", "1", "the setting 'nope' is unknown (DUMBWAITER_NOPE): unset the variable"),
        ("DUMBWAITER_", "1", "the setting '' is unknown (DUMBWAITER_): unset the variable"),
        ("DUMBWAITER_MAX_AGENT", "1", "the setting 'max_agent' is unknown (DUMBWAITER_MAX_AGENT): unset the variable"),
        (
            "DUMBWAITER_MAX_AGENTS",
            "many",
            "the setting 'max_agents' is not valid: Input should be a valid integer, unable to parse string as an "
            "integer (DUMBWAITER_MAX_AGENTS): mend it or take it away; `dumbwaiter doctor` checks it",
        ),
        (
            "DUMBWAITER_MAX_AGENTS",
            "0",
            "the setting 'max_agents' is not valid: Input should be greater than or equal to 1 "
            "(DUMBWAITER_MAX_AGENTS): mend it or take it away; `dumbwaiter doctor` checks it",
        ),
        (
            "DUMBWAITER_POLL_SECONDS",
            "nan",
            "the setting 'poll_seconds' is not valid: Input should be less than or equal to 3600 "
            "(DUMBWAITER_POLL_SECONDS): mend it or take it away; `dumbwaiter doctor` checks it",
        ),
        (
            "DUMBWAITER_RUNTIME",
            "podman",
            "the setting 'runtime' is not valid: Input should be 'auto', 'docker', 'process', 'nodes', 'swarm' or "
            "'kubernetes' (DUMBWAITER_RUNTIME): mend it or take it away; `dumbwaiter doctor` checks it",
        ),
    ],
)
def test_a_variable_that_cannot_be_is_named(tmp_path: Path, variable: str, value: str, sentence: str) -> None:
    assert loaded(tmp_path, {variable: value}) == {"error": sentence}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "nope = 1\n",
            "the setting 'nope' is unknown ({file}): mend it or take it away; `dumbwaiter doctor` checks it",
        ),
        ("[max_files]\nx = 1\n", "the setting 'max_files' is not valid: Input should be a valid integer ({file}): "),
        (
            "[tables]\nx = 1\n",
            "the setting 'tables' is unknown ({file}): mend it or take it away; `dumbwaiter doctor` checks it",
        ),
        (
            "max_agents = 0\n",
            "the setting 'max_agents' is not valid: Input should be greater than or equal to 1 ({file})",
        ),
        ('image = ["a"]\n', "the setting 'image' is not valid: Input should be a valid string ({file})"),
        (
            "max_agents = \n",
            "the file is malformed: Invalid value (at line 1, column 14) ({file}): mend it, or move it",
        ),
        ("max_agents = 1\nmax_agents = 2\n", "the file is malformed: Cannot overwrite a value"),
    ],
)
def test_a_file_that_cannot_be_is_named_with_what_is_wrong(tmp_path: Path, text: str, sentence: str) -> None:
    path = toml(tmp_path, text)
    error = loaded(tmp_path)["error"]
    assert error.startswith(sentence.format(file=path))
    assert str(path) in error
    assert "\n" not in error


@pytest.mark.parametrize("runtime", ["docker", "auto"])
def test_a_port_is_no_way_out_of_a_container(tmp_path: Path, runtime: str) -> None:
    error = loaded(tmp_path, {"DUMBWAITER_GATEWAY": "tcp"}, runtime=runtime)["error"]
    assert "gateway = tcp needs runtime = process: a container has no network" in error
    assert loaded(tmp_path, {"DUMBWAITER_GATEWAY": "tcp"}, runtime="process")["gateway"] == "tcp"


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "dumbwaiter.toml").write_bytes(b"image = '\xff\xfe'\n")
    error = loaded(tmp_path)["error"]
    assert error.startswith("the file is malformed: ")
    assert str(tmp_path / "dumbwaiter.toml") in error


def test_an_option_that_cannot_be_is_blamed_on_the_command_line(tmp_path: Path) -> None:
    error = loaded(tmp_path, {"DUMBWAITER_MAX_AGENTS": "5"}, max_agents=-1)["error"]
    assert error.startswith("the setting 'max_agents' is not valid")
    assert "(the command line)" in error


def test_a_wrong_variable_that_an_option_wins_over_does_no_harm(tmp_path: Path) -> None:
    assert loaded(tmp_path, {"DUMBWAITER_MAX_AGENTS": "many"}, max_agents=2)["max_agents"] == 2


def test_an_unknown_variable_in_small_letters_is_unknown_too(tmp_path: Path) -> None:
    assert loaded(tmp_path, {"dumbwaiter_max_agents": "2"})["max_agents"] == 2
    assert "error" in loaded(tmp_path, {"dumbwaiter_nope": "2"})


def test_a_variable_with_a_part_too_many_is_unknown(tmp_path: Path) -> None:
    assert "error" in loaded(tmp_path, {"DUMBWAITER_MAX_AGENTS__X": "2"})


@pytest.mark.parametrize(
    "text",
    [
        '[upstreams.openai]\nkey = "sk-1"',
        '[upstreams.x]\nurl = "http://me:secret@host/v1"',
        '\ufeff[a.b]\nbot_token = "1:a"',
    ],
)
def test_a_file_with_keys_is_made_private_whatever_runs_agents(tmp_path: Path, text: str) -> None:
    path = toml(tmp_path, text)
    for runtime in ("process", "docker"):
        path.chmod(0o644)
        loaded(tmp_path, runtime=runtime)
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_with_keys_that_cannot_be_made_private_is_refused(tmp_path: Path) -> None:
    path = toml(tmp_path, '[upstreams.openai]\nkey = "sk-1"')
    path.chmod(0o644)
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 4242, 4242)
    assert loaded(tmp_path)["error"] == f"others may read the file, and it has keys ({path}): chmod 600 {path}"
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_without_keys_may_be_read_by_others(tmp_path: Path) -> None:
    path = toml(tmp_path, 'max_agents = 3\ntokens_per_minute = 5\n[upstreams.openai]\nkey = ""\nurl = "http://x/v1"')
    path.chmod(0o644)
    assert loaded(tmp_path)["max_agents"] == 3
    assert path.stat().st_mode & 0o777 == 0o644


def test_settings_never_change(tmp_path: Path) -> None:
    settings = load({"data": tmp_path})
    with pytest.raises(ValidationError, match="frozen"):
        settings.max_agents = 5
    assert settings.layout.data == tmp_path


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_image_is_the_one_that_make_image_builds_for_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert Settings.model_fields["image"].default == f"dumbwaiter-agent:{project['version']}"


def test_a_variable_of_a_channel_has_an_underscore_for_the_hyphen_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "dumbwaiter.toml").write_text('[channels.my-bot]\ntype = "telegram"\n')
    environment = {"DUMBWAITER_CHANNELS__MY_BOT__TOKEN": "t", "DUMBWAITER_CHANNELS__OTHER_BOT__TYPE": "slack"}
    channels = loaded(tmp_path, environment)["channels"]
    assert channels == {"my-bot": {"type": "telegram", "token": "t"}, "other_bot": {"type": "slack"}}


def test_a_variable_that_may_mean_two_channels_is_refused_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "dumbwaiter.toml").write_text('[channels.a-b_c]\ntype = "telegram"\n[channels.a_b-c]\ntype = "slack"\n')
    error = loaded(tmp_path, {"DUMBWAITER_CHANNELS__A_B_C__TOKEN": "t"})["error"]
    assert "may mean a-b_c or a_b-c" in error
