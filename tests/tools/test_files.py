"""The tools for files: what they show and write, and what they will not touch."""

from __future__ import annotations

import codecs
import os
import unicodedata

import pytest

from tests.agent.session import BareSession
from tests.tools.bench import Turn, write


async def test_a_file_is_read_by_numbered_lines_from_any_of_them(turn: Turn, session: BareSession) -> None:
    box = await turn.tools()
    write(session.workspace / "list.txt", "\n".join(f"line {n}" for n in range(1, 8)) + "\n")
    assert await box.call("read_file", {"path": "list.txt", "offset": 3, "limit": 2}) == (
        "     3\tline 3\n     4\tline 4\n[3 more lines; go on with offset 5]"
    )
    assert await box.call("read_file", {"path": "list.txt", "offset": 8}) == "Error: the file has 7 lines"
    write(session.workspace / "empty", "")
    assert await box.call("read_file", {"path": "empty"}) == "[the file is empty]"
    assert await box.call("read_file", {"path": "nowhere"}) == "Error: there is no file 'nowhere'"
    assert await box.call("read_file", {"path": "."}) == "Error: 'workspace' is a folder"


async def test_what_is_no_text_is_refused(turn: Turn, session: BareSession) -> None:
    box = await turn.tools()
    (session.workspace / "latin").write_bytes(b"caf\xe9")
    (session.workspace / "zero").write_bytes(b"a\0b")
    os.mkfifo(session.workspace / "pipe")
    assert await box.call("read_file", {"path": "latin"}) == "Error: 'latin' is not a text file"
    assert await box.call("read_file", {"path": "zero"}) == "Error: 'zero' is not a text file"
    assert await box.call("read_file", {"path": "pipe"}) == "Error: 'pipe' is not an ordinary file"
    assert (await box.call("write_file", {"path": "pipe", "content": "x"})).startswith("Error: 'pipe' is not")


async def test_an_edit_needs_the_exact_text_once_unless_all_is_set(turn: Turn, session: BareSession) -> None:
    box = await turn.tools()
    file = write(session.workspace / "run.sh", "a = 1\nb = 1\n")
    file.chmod(0o755)
    assert "is in the file 2 times" in await box.call("edit_file", {"path": "run.sh", "old": "= 1", "new": "= 2"})
    assert "is not in the file" in await box.call("edit_file", {"path": "run.sh", "old": "a =1", "new": ""})
    assert await box.call("edit_file", {"path": "run.sh", "old": "a = 1", "new": "a = 2"}) == (
        "replaced 1 place in run.sh"
    )
    assert await box.call("edit_file", {"path": "run.sh", "old": " = ", "new": "=", "all": True}) == (
        "replaced 2 places in run.sh"
    )
    assert file.read_text() == "a=2\nb=1\n"
    assert file.stat().st_mode & 0o777 == 0o755
    assert os.listdir(session.workspace) == ["run.sh"]


async def test_folders_are_listed_to_a_depth(turn: Turn, session: BareSession) -> None:
    box = await turn.tools()
    assert await box.call("list_files", {}) == "[the folder is empty]"
    write(session.workspace / "a" / "b" / "deep.txt", "12345")
    write(session.workspace / "top.txt", "1")
    assert await box.call("list_files", {}) == "a/\ntop.txt  1 bytes"
    assert await box.call("list_files", {"depth": 3}) == "a/\na/b/\na/b/deep.txt  5 bytes\ntop.txt  1 bytes"


@pytest.mark.parametrize("path", ["../outside.txt", "link.txt", "folder/outside.txt", "{outside}", "a\0b", "loop", ""])
async def test_nothing_outside_is_read_written_or_listed(turn: Turn, session: BareSession, path: str) -> None:
    box = await turn.tools()
    outside = write(session.workspace.parent / "outside.txt", "secret")
    (session.workspace / "link.txt").symlink_to(outside)
    (session.workspace / "folder").symlink_to(outside.parent)
    (session.workspace / "loop").symlink_to(session.workspace / "loop")
    path = path.replace("{outside}", str(outside))
    for tool, more in (
        ("read_file", {}),
        ("write_file", {"content": "x"}),
        ("edit_file", {"old": "secret", "new": "x"}),
    ):
        said = await box.call(tool, {"path": path, **more})
        assert said.startswith("Error: ")
        assert "failed" not in said
        assert "secret" not in said
    assert outside.read_text() == "secret"
    assert not (session.workspace.parent / "x").exists()


async def test_the_session_folder_can_be_read_but_not_written(turn: Turn, session: BareSession) -> None:
    box = await turn.tools()
    came = write(session.layout.inbox / "msg" / "note.txt", "hello")
    assert await box.call("read_file", {"path": str(came)}) == "     1\thello"
    for path in (came, session.layout.outbound, session.layout.heartbeat):
        assert (await box.call("write_file", {"path": str(path), "content": ""})).startswith("Error: ")
    assert await box.call("read_file", {"path": str(session.layout.outbound)}) == (
        f"Error: '{session.layout.outbound}' is not a text file"
    )


async def test_a_file_keeps_its_line_ends_its_mark_and_its_encoding(turn: Turn, session: BareSession) -> None:
    box = await turn.tools()
    for name, mark, encoding in (
        ("plain", b"", "utf-8"), ("marked", codecs.BOM_UTF8, "utf-8"), ("wide", codecs.BOM_UTF16_LE, "utf-16-le")
    ):  # fmt: skip
        path = session.workspace / name
        path.write_bytes(mark + "one\r\ntwo\r\nthree\r\n".encode(encoding))
        assert await box.call("read_file", {"path": name}) == "     1\tone\n     2\ttwo\n     3\tthree"
        await box.call("edit_file", {"path": name, "old": "one\ntwo\n", "new": "1\n2\n"})
        assert path.read_bytes() == mark + "1\r\n2\r\nthree\r\n".encode(encoding)
        await box.call("edit_file", {"path": name, "old": "three", "new": "3\n4"})
        assert path.read_bytes() == mark + "1\r\n2\r\n3\r\n4\r\n".encode(encoding)
        await box.call("write_file", {"path": name, "content": "all\nnew\n"})
        assert path.read_bytes() == mark + "all\r\nnew\r\n".encode(encoding)
    write(session.workspace / "unix", "a\nb\n")
    await box.call("edit_file", {"path": "unix", "old": "a\n", "new": "c\n"})
    assert (session.workspace / "unix").read_bytes() == b"c\nb\n"


async def test_lines_are_those_of_an_editor(turn: Turn, session: BareSession) -> None:
    (session.workspace / "odd").write_text("a\u2028b\x0cc\nd\re", newline="")
    assert await (await turn.tools()).call("read_file", {"path": "odd"}) == (
        "     1\ta\u2028b\x0cc\n     2\td\n     3\te"
    )


async def test_accents_are_found_however_they_are_stored(turn: Turn, session: BareSession) -> None:
    box = await turn.tools()
    composed, apart = "caf\xe9", unicodedata.normalize("NFD", "caf\xe9")
    write(session.workspace / f"{apart}-f" / f"{apart}.txt", f"un {apart}\n")
    name = f"{composed}-f/{composed}.txt"
    assert "1\tun" in await box.call("read_file", {"path": name})
    await box.call("edit_file", {"path": name, "old": f"un {composed}", "new": f"le {composed}"})
    assert (session.workspace / f"{apart}-f" / f"{apart}.txt").read_text() == f"le {apart}\n"
    assert len(list((session.workspace / f"{apart}-f").iterdir())) == 1
    assert await box.call("send_file", {"path": name}) == "sent as out-1"
