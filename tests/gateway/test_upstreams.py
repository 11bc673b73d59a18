"""Where upstreams and their keys come from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from host.gateway.upstreams import UpstreamKind, UpstreamSetting, configure, doubts, read_file
from shared_schema.errors import InvalidValue
from tests.gateway.world import CANARY


def key_of(*sources: dict[str, UpstreamSetting], **variables: str) -> str | None:
    settings, file = (*sources, {}, {})[:2]
    key = configure(settings, file, variables)["openai"].key
    return None if key is None else key.get_secret_value()


def setting(key: str) -> dict[str, UpstreamSetting]:
    return {"openai": UpstreamSetting(key=SecretStr(key))}


def test_the_vendors_are_there_without_any_setting() -> None:
    upstreams = configure({}, {}, {})

    assert {name: upstream.url for name, upstream in upstreams.items()} == {
        "anthropic": "https://api.anthropic.com",
        "google": "https://generativelanguage.googleapis.com",
        "ollama": "http://127.0.0.1:11434",
        "openai": "https://api.openai.com/v1",
    }
    assert {name for name, upstream in upstreams.items() if upstream.lacks_key} == {"anthropic", "google", "openai"}


def test_a_setting_wins_over_the_file_and_the_file_over_the_vendors_variable() -> None:
    assert key_of(setting("one"), setting("two"), OPENAI_API_KEY="three") == "one"
    assert key_of({}, setting("two"), OPENAI_API_KEY="three") == "two"
    assert key_of(OPENAI_API_KEY="three\n") == "three"
    assert key_of(OPENAI_API_KEY=" ") is None
    assert key_of() is None


def test_another_service_takes_a_url_and_speaks_as_openai_does_unless_told() -> None:
    upstreams = configure(
        {
            "local": UpstreamSetting(url="http://gpu:8000/v1/"),
            "corp": UpstreamSetting(url="https://corp/anthropic", kind=UpstreamKind.ANTHROPIC, key=SecretStr("k")),
        },
        {},
        {},
    )

    assert (upstreams["local"].url, upstreams["local"].kind) == ("http://gpu:8000/v1", UpstreamKind.OPENAI)
    assert not upstreams["local"].lacks_key
    assert upstreams["corp"].authentication() == {"x-api-key": "k"}


def test_only_who_says_all_opens_more_than_model_calls() -> None:
    upstreams = configure({"openai": UpstreamSetting(paths="all")}, {"ollama": UpstreamSetting(paths="all")}, {})
    assert [name for name, upstream in upstreams.items() if upstream.opens_all] == ["ollama", "openai"]
    with pytest.raises(ValidationError):
        UpstreamSetting(paths="some")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("local", {}),
        ("Bad Name", {"url": "http://x"}),
        ("openai", {"url": "ftp://x"}),
        ("openai", {"url": "not a url"}),
        ("openai", {"url": f"https://user:{CANARY}@x"}),
        ("openai", {"url": "https://x/?key=y"}),
        ("openai", {"key": f"{CANARY}\r\nX-Evil: 1"}),
        ("openai", {"key": f"{CANARY} two"}),
    ],
)
def test_what_cannot_be_right_is_an_error_without_the_key(name: str, options: dict[str, str]) -> None:
    with pytest.raises(InvalidValue) as caught:
        configure({name: UpstreamSetting(**options)}, {}, {})  # type: ignore[arg-type]
    assert CANARY not in str(caught.value)


def test_a_file_with_keys_is_read_when_it_is_the_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "it's mine").mkdir()
    path = tmp_path / "it's mine" / "upstreams.toml"
    assert read_file(path) == {}
    path.write_text(f'[openai]\nkey = "{CANARY}"\n[local]\nurl = "http://x"\n')
    path.chmod(0o640)
    with pytest.raises(InvalidValue, match="chmod 600") as refused:
        read_file(path)
    subprocess.run(["/bin/sh", "-c", str(refused.value.hint)], cwd="/", check=True, timeout=60)

    upstreams = configure({}, read_file(path), {})

    assert upstreams["openai"].authentication() == {"authorization": f"Bearer {CANARY}"}
    assert CANARY not in repr(upstreams)


@pytest.mark.parametrize("content", [f'openai = "{CANARY}"', f'[openai]\ntoken = "{CANARY}"', f"key = {CANARY}", "[[["])
def test_a_file_of_another_form_is_an_error_without_its_text(tmp_path: Path, content: str) -> None:
    path = tmp_path / "upstreams.toml"
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(InvalidValue) as caught:
        read_file(path)
    assert CANARY not in f"{caught.value}{caught.value.__cause__}"
    assert caught.value.where == str(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "upstreams.toml"
    os.mkfifo(path, 0o600)
    with pytest.raises(InvalidValue):
        read_file(path)


def test_the_vendors_own_variables_say_where_a_service_is() -> None:
    variables = {
        "OPENAI_BASE_URL": "http://127.0.0.1:1234/v1",
        "ANTHROPIC_BASE_URL": "https://proxy.example/v1/",
        "GOOGLE_GEMINI_BASE_URL": "https://g.example/v1beta",
        "OLLAMA_HOST": "0.0.0.0",
    }
    upstreams = configure({}, {}, variables)

    assert {name: (upstream.url, upstream.url_from) for name, upstream in upstreams.items()} == {
        "openai": ("http://127.0.0.1:1234/v1", "OPENAI_BASE_URL"),
        "anthropic": ("https://proxy.example", "ANTHROPIC_BASE_URL"),
        "google": ("https://g.example", "GOOGLE_GEMINI_BASE_URL"),
        "ollama": ("http://127.0.0.1:11434", "OLLAMA_HOST"),
    }
    assert not any(upstream.lacks_key for upstream in upstreams.values())


def test_a_setting_and_the_file_win_over_the_vendors_url() -> None:
    given = {"openai": UpstreamSetting(url="http://set/v1")}
    for sources in ((given, {}), ({}, given)):
        upstream = configure(*sources, {"OPENAI_BASE_URL": "http://variable/v1"})["openai"]
        assert (upstream.url, upstream.url_from) == ("http://set/v1", "")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("gpu", "http://gpu:11434"),
        ("gpu:8080", "http://gpu:8080"),
        ("https://gpu.example", "https://gpu.example:443"),
        ("http://gpu", "http://gpu:80"),
        (":11435", "http://127.0.0.1:11435"),
        ("http://0.0.0.0:11434/", "http://127.0.0.1:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("'gpu'", "http://gpu:11434"),
    ],
)
def test_ollamas_variable_is_read_as_ollama_reads_it(text: str, url: str) -> None:
    assert configure({}, {}, {"OLLAMA_HOST": text})["ollama"].url == url


@pytest.mark.parametrize(
    ("name", "url", "taken"),
    [
        ("anthropic", "https://api.anthropic.com/v1", "https://api.anthropic.com"),
        ("google", "https://generativelanguage.googleapis.com/v1beta/", "https://generativelanguage.googleapis.com"),
        ("ollama", "http://gpu:11434/v1", "http://gpu:11434"),
        ("ollama", "http://gpu:11434/api", "http://gpu:11434"),
        ("openai", "http://gpu:8000/v1", "http://gpu:8000/v1"),
    ],
)
def test_a_url_in_the_form_of_another_sdk_is_taken(name: str, url: str, taken: str) -> None:
    assert configure({name: UpstreamSetting(url=url)}, {}, {})[name].url == taken


def test_a_url_without_v1_is_doubted() -> None:
    upstreams = configure({"lmstudio": UpstreamSetting(url="http://127.0.0.1:1234")}, {}, {})
    assert "http://127.0.0.1:1234/v1" in (doubts(upstreams["lmstudio"]) or "")
    assert [name for name, upstream in upstreams.items() if doubts(upstream)] == ["lmstudio"]
