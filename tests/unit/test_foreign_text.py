"""Text as other systems write it keeps its meaning: marks, encodings, line ends, joiners, accents."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from host.central import title
from host.gateway.upstreams import read_file
from host.gateway.upstreams_file import store
from host.operations.export_import import sessions_in
from host.routing.text import preview
from host.runtime.mounts import read_allow_list
from host.sessions.filename import safe_name
from host.settings import load
from shared_schema import foreign_text as text
from shared_schema.ids import Prefix, new_id

MARKED = {"utf-8": b"\xef\xbb\xbf", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"


@pytest.mark.parametrize("encoding", MARKED)
def test_a_mark_says_the_encoding_and_is_no_part_of_the_text(encoding: str) -> None:
    data = MARKED[encoding] + "caf\xe9 \ufeff".encode(encoding)
    assert text.decoded(data) == "caf\xe9 \ufeff"


@pytest.mark.parametrize("encoding", MARKED)
def test_settings_keys_and_mounts_are_read_in_any_marked_encoding(tmp_path: Path, encoding: str) -> None:
    def put(name: str, said: str) -> Path:
        path = tmp_path / name
        path.write_bytes(MARKED[encoding] + said.encode(encoding))
        path.chmod(0o600)
        return path

    put("dumbwaiter.toml", "max_agents = 3\r\n")
    assert load({"data": tmp_path}).max_agents == 3
    keys = put("keys.toml", '[openai]\nkey = "k"\n')
    assert read_file(keys)["openai"].key is not None
    store(keys, "anthropic", {"key": "other"})
    assert set(read_file(keys)) == {"openai", "anthropic"}
    assert len(read_allow_list(put("mounts.toml", '[[allow]]\npath = "/srv/books"\n'))) == 1


def test_an_export_may_begin_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    time = "2026-02-28T12:00:00.000Z"
    header = {"type": "session", "format": 1, "id": new_id(Prefix.SESSION), "created_at": time, "last_active": time}
    path.write_bytes(MARKED["utf-8"] + json.dumps(header).encode())
    assert [each.header["id"] for each in sessions_in(path)] == [header["id"]]


@pytest.mark.parametrize("word", [FAMILY, PERSIAN])
def test_what_joins_characters_is_a_part_of_them(word: str) -> None:
    assert safe_name(f"{word}.png") == f"{word}.png"
    assert title.clean(f" {word} \u200d") == word
    assert title.first_words(f"{word} {word}") == f"{word} {word}"
    assert preview(f"{word}\u0007") == word


def test_a_title_is_not_cut_within_what_is_joined() -> None:
    assert title.cut(f"ab{FAMILY}", 4) == "ab"
    assert title.cut(f"ab{FAMILY}c", 7) == f"ab{FAMILY}"


@pytest.mark.parametrize("name", ["\u200d", "\u200c.", "\u202egnp.exe", "\u200b"])
def test_names_of_nothing_that_can_be_seen_stay_refused(name: str) -> None:
    assert "\u202e" not in safe_name(name)
    assert safe_name(name).strip("\u200b\u200c\u200d")


def test_names_that_differ_in_how_accents_are_stored_are_the_same() -> None:
    assert text.same_name("caf\xe9", unicodedata.normalize("NFD", "caf\xe9"))
    assert not text.same_name("cafe", "caf\xe9")
