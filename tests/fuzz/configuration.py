"""What the owner of a data folder writes: settings in a file and in the environment, the list of mounts, the keys."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from host.gateway.upstreams import configure, read_file
from host.runtime.mounts import read_allow_list
from host.settings import PREFIX, BadSetting, Settings, load
from shared_schema.errors import Conflict, InvalidValue
from tests.fuzz.target import Drive, Target, of_bytes
from tests.fuzz.values import ANY_TEXT

NESTED = b"image = " + b"[" * 10_000
ENDLESS = b"max_agents = " + b"9" * 5_000
TABBED = b'[google]\nurl = "https\t://h"\n'
KEY = "sk-canary-0123456789abcdef"

NAMES = st.one_of(st.sampled_from(sorted(Settings.model_fields)), st.text("abc_=é\udcff", min_size=1, max_size=10))
VALUES = st.one_of(
    st.sampled_from(("auto", "docker", "1", "0", "-1", "nan", "inf", "1e999", "9" * 5000, "true", "[]", "{}", "null")),
    ANY_TEXT,
)


def healthy_settings() -> Sequence[bytes]:
    """Files with a setting of each type."""
    return [
        b'runtime = "process"\nmax_agents = 3\nidle_seconds = 1.5\nimage = "x"\n',
        b'# a comment\nlog_level = "debug"\nsilent_seconds = 60\nheartbeat_seconds = 10\nmax_text = 1000\n',
        b'[table]\nkey = [1, 2.5, "x", {a = true}, 2026-02-28T12:00:00Z]\n',
    ]


def healthy_mounts() -> Sequence[bytes]:
    """Lists of mounts."""
    return [
        b'[[allow]]\npath = "/srv/books"\nwritable = false\n',
        b'[[allow]]\npath = "/usr"\n[[allow]]\npath="/var"\n',
    ]


def healthy_keys() -> Sequence[bytes]:
    """Files with keys."""
    return [
        f'[anthropic]\nkey = "{KEY}"\n\n[local]\nurl = "http://gpu.example.net:8000/v1"\nkind = "openai"\n'.encode(),
        f"[google]\nkey = '{KEY}'\nurl = \"https://h/{KEY}\"\n".encode(),
    ]


@contextmanager
def _file(folder: Path) -> Iterator[Drive]:
    def drive(data: bytes) -> None:
        (folder / "dumbwaiter.toml").write_bytes(data)
        settings = load({"data": folder})
        assert settings.layout.data == folder

    with _environment({}):
        yield drive


@contextmanager
def _variables(folder: Path) -> Iterator[Drive]:
    def drive(variables: dict[str, str]) -> None:
        with _environment(variables):
            settings = load({"data": folder})
        assert settings.silent_seconds >= 2 * settings.heartbeat_seconds

    yield drive


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """The environment with these settings and no others."""
    before = {name: value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    for name in before:
        del os.environ[name]
    given = []
    try:
        for name, value in variables.items():
            try:
                os.environ[f"{PREFIX}{name}"] = value
            except (ValueError, UnicodeEncodeError):  # no process can be given such a variable
                continue
            given.append(f"{PREFIX}{name}")
        yield
    finally:
        for name in given:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def _mounts(folder: Path) -> Iterator[Drive]:
    def drive(data: bytes) -> None:
        path = folder / "mounts.toml"
        path.write_bytes(data)
        for allowed in read_allow_list(path):
            assert allowed.path.is_absolute()
            assert not path.is_relative_to(allowed.path)

    yield drive


@contextmanager
def _keys(folder: Path) -> Iterator[Drive]:
    """The file with keys is taken or refused, and nothing that is said of it has what stands in it for a key."""
    path = folder / "upstreams.toml"
    path.touch(0o600)

    def drive(data: bytes) -> None:
        path.write_bytes(data)
        try:
            upstreams = configure({}, read_file(path), {})
        except InvalidValue as error:
            if KEY in str(error) and not _is_name(data, KEY):
                raise AssertionError("an error repeats a key") from error
            raise
        for upstream in upstreams.values():
            assert upstream.url.startswith(("http://", "https://"))
            assert KEY not in repr(upstream).replace(upstream.url, "")

    yield drive


def _is_name(data: bytes, text: str) -> bool:
    """Whether a text is, or is in, the name of something in a TOML file."""

    def names(value: Any) -> Iterator[str]:
        for name, inner in value.items() if isinstance(value, dict) else ():
            yield name
            yield from names(inner)

    return any(text in name for name in names(tomllib.loads(data.decode())))


CONFIGURATION = (
    of_bytes("settings-file", _file, healthy_settings, (BadSetting,), known=(NESTED, ENDLESS)),
    Target(
        "settings-environment",
        _variables,
        st.dictionaries(st.one_of(NAMES, NAMES.map(str.upper)), VALUES, max_size=4),
        (BadSetting,),
    ),
    of_bytes("mounts-file", _mounts, healthy_mounts, (InvalidValue, Conflict), known=(NESTED, ENDLESS)),
    of_bytes("upstreams-file", _keys, healthy_keys, (InvalidValue,), known=(NESTED, ENDLESS, TABBED)),
)
