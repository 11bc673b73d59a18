"""Files of a message that waits for a decision: they are there when its sender was let in, and gone when not."""

from __future__ import annotations

from pathlib import Path

from host.routing import waiting
from host.routing.event import Event, RemoteFile
from host.sessions.attachments import Attachment
from shared_schema.rows import Address
from tests.access.people import OWNERS_CHAT, chat, click, owner, said_in, write
from tests.support.host import running


def spooled(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "spool").rglob("*") if path.is_file())


async def test_files_of_a_stranger_are_given_to_the_agent_once_they_are_let_in(tmp_path: Path) -> None:
    mail = tmp_path / "mail.txt"
    mail.write_text("of a mail")
    data = tmp_path / "data"

    async def download(file: RemoteFile, target: Path) -> None:
        assert file.reference == "f1"
        fetched.append(file.name)
        target.write_bytes(b"milk")

    fetched: list[str] = []
    async with running(data) as host:
        host.channel.download = download
        await owner(host)
        await chat(host, "dm")
        await write(host, "look", where="dm", remote_files=(RemoteFile("list.txt", "f1", 4),))
        await write(host, "", where="dm", attachments=(Attachment("mail.txt", mail),))
        (card,) = await said_in(host, OWNERS_CHAT)
        assert "Files: list.txt" in card.text
        assert fetched == []  # a stranger fills no disk of ours from a platform
        assert spooled(data) == ["mail.txt"]
        mail.unlink()
        host.services.inbox_sync.clear_spool(host.services.inbox_sync.clear_spool(set()))
        assert spooled(data) == ["mail.txt"]

        await click(host, card, "Let in", sender="olga")
        await said_in(host, "dm", 2)
        await host.settled()
        inbox = (await host.session()).inbox
        assert sorted(path.read_text() for path in inbox.rglob("*.txt")) == ["milk", "of a mail"]
        host.services.inbox_sync.clear_spool(host.services.inbox_sync.clear_spool(set()))
        assert spooled(data) == []


async def test_files_of_who_is_not_let_in_are_cleared_away_and_too_many_are_not_kept(tmp_path: Path) -> None:
    file, large = tmp_path / "a.bin", tmp_path / "large.bin"
    file.write_bytes(b"x")
    with large.open("wb") as sparse:
        sparse.truncate(waiting.MOST_BYTES + 1)
    data = tmp_path / "data"
    async with running(data, max_file_bytes=64 * 1024**2) as host:
        await owner(host)
        await chat(host, "dm")
        await write(host, "one", where="dm", attachments=(Attachment("a.bin", file),))
        await write(host, "two", where="dm", attachments=(Attachment("large.bin", large),))
        assert spooled(data) == ["a.bin"]
        (approval,) = await host.central("SELECT waiting FROM approvals")
        assert "[files came with this message and were not kept while it waited: large.bin]" in approval["waiting"]
        (card,) = await said_in(host, OWNERS_CHAT)
        await click(host, card, "No", sender="olga")
        await said_in(host, "dm", 2)
        host.services.inbox_sync.clear_spool(host.services.inbox_sync.clear_spool(set()))
        assert spooled(data) == []


def test_nothing_but_what_is_short_is_kept_of_the_way_to_a_file() -> None:

    files = (RemoteFile("good.txt", "r" * 2_000, 1), RemoteFile("bad\n.txt", "r" * 2_001, 1))
    kept = waiting.to_json(Event(Address("memory", "dm"), "p1", "look", sender_id="sam", remote_files=files))
    assert [name for name, _, _ in kept["remote_files"]] == ["good.txt"]
    assert kept["text"].endswith("[files came with this message and were not kept while it waited: bad .txt]")
    assert waiting.from_json(kept, Path("/nowhere")).remote_files == files[:1]
