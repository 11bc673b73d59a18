"""Where upstreams and their keys come from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from host.gateway.upstreams import Kind, UpstreamSetting, configure, read_file
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
            "corp": UpstreamSetting(url="https://corp/anthropic", kind=Kind.ANTHROPIC, key=SecretStr("k")),
        },
        {},
        {},
    )

    assert (upstreams["local"].url, upstreams["local"].kind) == ("http://gpu:8000/v1", Kind.OPENAI)
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
    path = tmp_path / "upstreams.toml"
    assert read_file(path) == {}
    path.write_text(f'[openai]\nkey = "{CANARY}"\n[local]\nurl = "http://x"\n')
    path.chmod(0o640)
    with pytest.raises(InvalidValue, match="chmod 600"):
        read_file(path)
    path.chmod(0o600)

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
