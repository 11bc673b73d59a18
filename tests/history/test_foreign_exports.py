"""Exports of other systems are recognised, and imported; of any other file a sentence says what is true."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from host.operations.export_import import sessions_in
from host.operations.foreign_exports import conversations
from shared_schema.errors import InvalidValue
from tests.support.host import running

SAID = {
    "root": {"id": "root", "message": None, "parent": None, "children": ["s"]},
    "s": {
        "message": {"author": {"role": "system"}, "content": {"content_type": "text", "parts": [""]}},
        "parent": "root",
        "children": ["q"],
    },
    "q": {
        "message": {
            "author": {"role": "user"},
            "create_time": 1_700_000_000.5,
            "content": {"content_type": "multimodal_text", "parts": ["Where to?", {"asset_pointer": "file"}]},
            "metadata": {"attachments": [{"name": "map.png"}]},
        },
        "parent": "s",
        "children": ["old", "t"],
    },
    "old": {
        "message": {"author": {"role": "assistant"}, "content": {"content_type": "text", "parts": ["Not this"]}},
        "parent": "q",
        "children": [],
    },
    "t": {
        "message": {
            "author": {"role": "assistant"},
            "recipient": "browser",
            "content": {"content_type": "code", "text": "search()"},
        },
        "parent": "q",
        "children": ["a"],
    },
    "a": {
        "message": {
            "author": {"role": "assistant"},
            "create_time": 1_700_000_010,
            "recipient": "all",
            "content": {"content_type": "text", "parts": ["To the sea \ud83c\udf0a"]},
        },
        "parent": "t",
        "children": [],
    },
}
CHATGPT = [
    {"title": "Trip", "create_time": 1_700_000_000.0, "update_time": 1_700_000_020, "mapping": SAID,
     "current_node": "a", "conversation_id": "c-1"},
    {"title": "Empty", "create_time": 1, "mapping": {"a": {"message": None}}},
]  # fmt: skip
CLAUDE = [
    {
        "uuid": "u-1",
        "name": "Soup",
        "created_at": "2025-01-01T10:00:00.000000Z",
        "updated_at": "2025-01-01T10:01:00.000000+00:00",
        "account": {"uuid": "x"},
        "chat_messages": [
            {"uuid": "1", "sender": "human", "text": "How?", "content": [{"type": "text", "text": "How?"}],
             "created_at": "2025-01-01T10:00:00Z", "files": [{"file_name": "list.txt"}], "attachments": []},
            {"uuid": "2", "sender": "assistant", "text": "", "created_at": "2025-01-01T10:00:30Z",
             "content": [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "Slowly."}]},
        ],
    }
]  # fmt: skip


def written(path: Path, value: Any, how: str) -> Path:
    """An export as it may lie on a disk."""
    text = json.dumps(value, indent=2 if how == "pretty" else None, ensure_ascii=how != "utf-16")
    match how:
        case "zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("user.json", "{}")
                archive.writestr("export/conversations.json", text)
        case "mark":
            path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        case "utf-16":
            path.write_bytes(text.encode("utf-16", "surrogatepass"))
        case _:
            path.write_text(text)
    return path


@pytest.mark.parametrize("how", ["pretty", "one line", "mark", "zip"])
async def test_an_export_of_another_system_becomes_sessions_that_can_be_taken_up(how: str, tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        for value in (CHATGPT, CLAUDE):
            path = written(tmp_path / "conversations", value, how)
            first = await host.do("session.import", path=str(path))
            again = await host.do("session.import", path=str(path))
            assert (len(first["imported"]), again["present"]) == (1, first["imported"])
        listed = {each["title"]: each for each in await host.do("session.list", status="ended")}
        assert listed.keys() == {"Trip", "Soup"}
        assert listed["Trip"]["created_at"] == "2023-11-14T22:13:20.000Z"
        assert listed["Soup"]["last_active"] == "2025-01-01T10:01:00.000Z"
        told = await host.do("session.transcript", session="Trip")
        assert [(each["direction"], each["text"]) for each in told] == [
            ("in", "Where to?\n[file: map.png]"),
            ("out", "To the sea 🌊"),
        ]
        told = await host.do("session.transcript", session="Soup", steps=True)
        assert [each["text"] for each in told if each["direction"] == "step"] == ["How?\n[file: list.txt]", "Slowly."]
        assert (await host.do("session.search", query="sea"))["hits"][0]["title"] == "Trip"


async def test_which_agent_is_meant_is_asked_where_there_are_several(tmp_path: Path) -> None:
    path = written(tmp_path / "conversations.json", CLAUDE, "pretty")
    async with running(tmp_path / "data") as host:
        await host.do("agent_group.add", name="other", provider="scripted")
        with pytest.raises(InvalidValue, match="--agent-group"):
            await host.do("session.import", path=str(path))
        assert (await host.do("session.import", path=str(path), agent_group="other"))["imported"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'[{"title": "x"}]', "this is JSON, and no export that is known"),
        (b'{\n  "title": "x"\n}', "this is JSON, and no export that is known"),
        (b'{"title": "x"}', "this is JSON, and no export that is known"),
        (b"[1, 2]", "this is JSON, and no export that is known"),
        (b'[{"mapping": {}}, {"title": ', "it begins as JSON"),
        (b'[{"mapping": {}}, ', "it begins as JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"hello", "line 1 cannot be imported: it is not JSON"),
        (b'{"type": "session"', "line 1 cannot be imported: it is not JSON"),
        (b"PK\x03\x04 no zip", "line 1 cannot be imported"),
        (b"\xff\xfe\x00", "cannot be read as text"),
        (b"\x80", "cannot be read as text"),
        (b'[{"chat_messages": [5]}]', "conversation 1 is not what"),
    ],
)
def test_any_other_file_is_refused_with_what_is_true_of_it(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(InvalidValue, match=says):
        list(sessions_in(path))


def test_a_zip_without_conversations_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"x")
    with pytest.raises(InvalidValue, match=r"no conversations.json in this zip"):
        list(sessions_in(path))


def test_a_long_list_is_read_one_after_the_other() -> None:
    one = json.dumps(CLAUDE[0])
    text = "[" + ",\n".join([one] * 3_000) + "]"
    assert sum(1 for _ in conversations(io.StringIO(text))) == 3_000


def test_a_tree_that_runs_in_a_circle_ends() -> None:
    node = {"message": None, "parent": "a", "children": ["a"]}
    (found,) = conversations(io.StringIO(json.dumps([{"mapping": {"a": node}, "current_node": "a"}])))
    assert found.messages == ()
