"""FAILURES 45, 46: files that come in under hostile names, and files a hostile agent would like the host to send."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from host.channels.memory import MemoryChannel
from host.channels.protocol import Outgoing
from host.sessions.attachments import Attachment
from shared_schema.errors import DumbwaiterError
from tests.support.chats import hears, refusals, said, session_of
from tests.support.host import rows, running
from tests.support.script import script
from tests.support.short import in_short
from tests.support.wait import until

SECRET = "the host's own words, for nobody else"

NAMES = [
    "../../x",
    "/etc/cron.d/x",
    "..",
    ".",
    "",
    ".bashrc",
    "CON",
    "nul.txt",
    "a" * 5000 + ".png",
    "\u202egnp.exe",
    "line\nend",
    "zero\x00byte",
    "back\\..\\slash",
    "picture.png",
    "picture.png",
    "PICTURE.png",
    "~",
    "-rf",
    "ünï😀.txt",
    "a:b|c",
]


async def test_failure_45_whatever_a_file_is_called_it_lands_in_its_messages_inbox(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    files = []
    for number, name in enumerate(NAMES):
        (outside / str(number)).write_text(f"file {number}")
        files.append(Attachment(name, outside / str(number)))
    data = tmp_path / "data"
    async with running(data, command=script(tmp_path)) as host:
        before = _everything(data)
        asked = (await host.say("look", files=files)).accepted[0]
        assert await host.outcome(asked.message_id) == "completed"
        layout = await host.session()
        (row,) = rows(layout.inbound, "SELECT content FROM messages_in")
        listed = json.loads(row["content"])["files"]
        assert [(layout.folder / file["path"]).read_text() for file in listed] == [
            f"file {number}" for number in range(len(NAMES))
        ]
        inbox = layout.inbox / asked.message_id
        assert {(layout.folder / file["path"]).parent for file in listed} == {inbox}
        assert len({file["name"].casefold() for file in listed}) == len(NAMES)
        assert sorted(os.listdir(inbox)) == sorted(file["name"] for file in listed)
        new = {path for path in _everything(data) - before if layout.folder not in (path, *path.parents)}
        assert {path.name for path in new} <= {layout.folder.parent.name, "assistant"} | _bookkeeping(data)


async def test_failure_45_a_message_of_the_same_name_again_overwrites_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source"
    async with running(tmp_path, command=script(tmp_path)) as host:
        for text in ("first", "second"):
            source.write_text(text)
            await host.ask(text, files=[Attachment("same.txt", source)])
        layout = await host.session()
        assert sorted(path.read_text() for path in layout.inbox.glob("*/same.txt")) == ["first", "second"]


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "missing", "too large", "too many"])
async def test_failure_45_a_file_that_cannot_be_taken_is_refused_with_the_whole_event(
    tmp_path: Path, kind: str
) -> None:
    source = tmp_path / "source"
    if kind == "a folder":
        source.mkdir()
    elif kind == "a pipe":
        os.mkfifo(source)
    elif kind != "missing":
        source.write_bytes(bytes(2000 if kind == "too large" else 1))
    async with running(tmp_path, command=script(tmp_path), max_file_bytes=1000, max_files=2) as host:
        with pytest.raises(DumbwaiterError):
            await host.say("look", files=[Attachment("x", source)] * (3 if kind == "too many" else 1))
        assert os.listdir(tmp_path / "spool") == []
        assert await host.ask("hello") == "ok: hello"
        assert await host.central("SELECT count(*) AS n FROM ingest") == [{"n": 1}]


async def test_failure_46_a_file_an_honest_agent_attaches_is_sent_with_its_content(tmp_path: Path) -> None:
    channel = Reading()
    async with running(tmp_path, channel=channel) as host:
        assert await host.ask("attach picture.png 20") == "attached picture.png"
        assert channel.contents == [("picture.png", b"x" * 20)]


class Reading(MemoryChannel):
    """A platform that reads the files it is given, at the moment it is given them."""

    def __init__(self) -> None:
        super().__init__()
        self.contents: list[tuple[str, bytes]] = []

    async def deliver(self, message: Outgoing) -> str | None:
        self.contents += [(path.name, path.read_bytes()) for path in message.files]
        return await super().deliver(message)


# What a hostile agent prepares for message `id` in `OUT + "/outbox"`, and the name in its row's `files`.
TRICKS = {
    "a link to a file of the host": ("os.symlink(secret, box + '/x')", "'x'"),
    "a link in place of its folder": ("os.rmdir(box); os.symlink(os.path.dirname(secret), box)", "'secret'"),
    "a link in place of the outbox": (
        "import shutil; shutil.rmtree(OUT + '/outbox'); os.symlink(os.path.dirname(secret), OUT + '/outbox')",
        "'secret'",
    ),
    "a path upwards": ("pass", "'../../../../../../../secret'"),
    "an absolute path": ("pass", "secret"),
    "a folder below": ("os.mkdir(box + '/x'); os.symlink(secret, box + '/x/y')", "'x/y'"),
    "two dots": ("pass", "'..'"),
    "a folder": ("os.mkdir(box + '/x')", "'x'"),
    "a pipe": ("os.mkfifo(box + '/x')", "'x'"),
    "a device": ("os.symlink('/dev/zero', box + '/x')", "'x'"),
    "a file that is too large": ("open(box + '/x', 'wb').truncate(2000)", "'x'"),
    "a file that is not there": ("pass", "'x'"),
    "a name with a zero byte": ("pass", "'x\\0y'"),
    "a name that is too long": ("pass", "'x' * 5000"),
    "half a character": ("pass", "'\\ud800'"),
}


@pytest.mark.parametrize(
    "trick",
    in_short(
        TRICKS,
        "a link to a file of the host",
        "a link in place of its folder",
        "a path upwards",
        "a device",
        "half a character",
    ),
)
async def test_failure_46_nothing_outside_its_outbox_is_sent_for_a_hostile_agent(tmp_path: Path, trick: str) -> None:
    prepare, name = TRICKS[trick]
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "secret").write_text(SECRET)
    lines = f"""
secret = {str(tmp_path / "kept" / "secret")!r}

def answer(message, text):
    id = new("msg")
    box = OUT + "/outbox/" + id
    os.makedirs(box)
    {prepare}
    content = json.dumps({{"text": "look", "files": [{name}]}})
    write(row(message, "", id=id, content=content))
    reply(message, "ok: " + text)
"""
    channel = Reading()
    async with running(tmp_path, channel=channel, command=script(tmp_path, lines), max_file_bytes=1000) as host:
        await host.say("hello")
        await hears(host, "ok: hello")
        await host.settled()
        assert said(host) == ["ok: hello"]
        assert channel.contents == []
        assert SECRET not in str(host.texts())
        assert "out-1" in await refusals(host, await session_of(host, "one"))
        layout = await host.session()
        assert [path for path in layout.sent.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("evil", ["'../../../../kept'", "'..'", "'/'", "'msg_' + '../' * 5 + 'a'"])
async def test_failure_46_an_id_that_is_a_path_opens_nothing(tmp_path: Path, evil: str) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "secret").write_text(SECRET)
    lines = f"""
def answer(message, text):
    os.makedirs(OUT + "/outbox", exist_ok=True)
    content = json.dumps({{"text": "look", "files": ["secret"]}})
    write(row(message, "", id={evil}, content=content))
    reply(message, "ok: " + text)
"""
    async with running(tmp_path, command=script(tmp_path, lines)) as host:
        await host.say("hello")
        await hears(host, "ok: hello")
        await host.settled()
        assert said(host) == ["ok: hello"]
        assert await refusals(host, await session_of(host, "one")) == {"out-1": "its id is not a message id"}


async def test_failure_46_a_file_changed_after_it_was_checked_is_sent_as_it_was(tmp_path: Path) -> None:
    lines = """
def answer(message, text):
    id = new("msg")
    os.makedirs(OUT + "/outbox/" + id)
    with open(OUT + "/outbox/" + id + "/x", "w") as file:
        file.write("as checked")
    write(row(message, "", id=id, content=json.dumps({"text": "look", "files": ["x"]})), ack(message))
    copy = SESSION + "/sent/out-1/x"
    while not os.path.exists(copy) or os.path.getsize(copy) == 0:
        beat()
    os.unlink(OUT + "/outbox/" + id + "/x")
    os.symlink("/etc/passwd", OUT + "/outbox/" + id + "/x")
    open(OUT + "/swapped", "w").close()
"""
    channel = Reading()
    channel.is_down = True
    async with running(tmp_path, channel=channel, command=script(tmp_path, lines)) as host:
        await host.say("hello")
        await until((await host.session()).out.joinpath("swapped").exists, "a link to another file is in its place")
        channel.is_down = False
        await channel.wait_for(1)
        assert set(channel.contents) == {("x", b"as checked")}


async def test_what_one_agent_makes_the_host_keep_of_its_files_is_bounded(tmp_path: Path) -> None:
    lines = """
def answer(message, text):
    os.makedirs(OUT + "/outbox/same")
    with open(OUT + "/outbox/same/x", "wb") as file:
        file.write(bytes(1_000_000))
    rows = []
    for _ in range(20):
        id = new("msg")
        os.mkdir(OUT + "/outbox/" + id)
        os.link(OUT + "/outbox/same/x", OUT + "/outbox/" + id + "/x")
        rows.append(row(message, "", id=id, content=json.dumps({"text": "look", "files": ["x"]})))
    write(*rows, ack(message))
"""
    async with running(tmp_path, command=script(tmp_path, lines), out_bytes=4 * 1024**2) as host:
        asked = (await host.say("hello")).accepted[0]
        assert await host.outcome(asked.message_id) == "completed"
        layout = await host.session()
        kept = sum(path.stat().st_size for path in layout.sent.rglob("x"))
        assert kept <= 4 * 1024**2


def _everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def _bookkeeping(data: Path) -> set[str]:
    """What the runtime remembers, and the two databases of the host with the files beside them."""
    return {path.name for path in (data / "run").rglob("*")} | {
        f"{name}.db{end}" for name in ("central", "history") for end in ("", "-wal", "-shm")
    }
