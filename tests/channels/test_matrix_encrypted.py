"""Encrypted rooms of a real Synapse: the library of the bot on one side, and the same on the side of a person."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nio
import nio.crypto
import nio.store
import pytest

from host.channels.matrix import TYPE as MATRIX
from host.channels.protocol import Outgoing
from shared_schema.rows import Address
from tests.channels.open_host import ChannelHost, channel_host
from tests.conftest import cannot_run
from tests.platforms.synapse import Person, Synapse, missing_synapse, synapse
from tests.support.wait import until

MEGOLM = {"algorithm": "m.megolm.v1.aes-sha2"}
pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def server() -> Iterator[Synapse]:
    if (reason := missing_synapse()) is not None:
        cannot_run(reason)
    if not nio.crypto.ENCRYPTION_ENABLED:
        cannot_run("matrix-nio[e2e] is not installed")
    with synapse() as server:
        yield server


class SecretPerson:
    """A person whose program encrypts."""

    def __init__(self, person: Person, folder: Path) -> None:
        folder.mkdir()
        config = nio.AsyncClientConfig(encryption_enabled=True, store=nio.store.SqliteStore, store_sync_tokens=False)
        self.client = nio.AsyncClient(person.url, store_path=str(folder), config=config)
        device = person.call("GET", "client/v3/account/whoami")["device_id"]
        self.client.restore_login(person.user_id, device, person.token)
        self.said: list[Any] = []

    async def listen(self) -> None:
        """Take what is new, and give and get keys."""
        answer = await self.client.sync(500, full_state=self.client.next_batch == "")
        assert isinstance(answer, nio.SyncResponse)
        for info in answer.rooms.join.values():
            self.said += [each for each in info.timeline.events if each.sender != self.client.user_id]
        if self.client.should_upload_keys:
            await self.client.keys_upload()
        if self.client.should_query_keys:
            await self.client.keys_query()
        await self.client.send_to_device_messages()

    async def say(self, room: str, text: str) -> None:
        await self.listen()
        content = {"msgtype": "m.text", "body": text}
        sent = await self.client.room_send(room, "m.room.message", content, ignore_unverified_devices=True)
        assert isinstance(sent, nio.RoomSendResponse), sent

    async def hears(self, text: str) -> Any:
        """Wait until the bot has said that, and this program could read it."""

        async def heard() -> Any:
            await self.listen()
            return next((each for each in self.said if getattr(each, "body", None) == text), None)

        return await until(heard, f"'{text}' is heard, of {self.said}", 90)


@asynccontextmanager
async def bot(data: Path, person: Person, room: str) -> AsyncIterator[ChannelHost]:
    settings = {"homeserver": person.url, "token": person.token, "sync_seconds": 2}
    async with channel_host(data, MATRIX, settings, chats=[room]) as there:

        async def has_token() -> bool:
            return await there.context.state.get("sync") is not None

        await until(has_token, "the first sync is done", 60)
        yield there


async def test_an_encrypted_room_is_read_and_answered_also_after_a_restart(server: Synapse, tmp_path: Path) -> None:
    us, ann = server.person("bot"), server.person("ann")
    room = ann.room(
        us.user_id, is_direct=True,
        initial_state=[{"type": "m.room.encryption", "state_key": "", "content": MEGOLM}],
    )  # fmt: skip
    us.join(room)
    ann_there = SecretPerson(ann, tmp_path / "ann")
    data, file = tmp_path / "data", tmp_path / "note.txt"
    file.write_text("a secret")
    try:
        async with bot(data, us, room) as there:
            await ann_there.say(room, "hello")
            answer = await ann_there.hears("scripted: hello")
            assert answer.decrypted
            await there.channel.deliver(Outgoing("k", Address("matrix", room), "chat", "", files=(file,)))
            folder = there.context.folder
            assert folder is not None
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        await ann_there.say(room, "while you were away")
        async with bot(data, us, room) as there:
            await ann_there.hears("scripted: while you were away")
            await ann_there.say(room, "and now")
            await ann_there.hears("scripted: and now")
            assert [event.text for event in there.events()][-2:] == ["while you were away", "and now"]
    finally:
        await ann_there.client.close()
    # The server has seen none of it.
    clear = [event["content"] for event in ann.timeline(room) if event["type"] == "m.room.message"]
    assert clear == []
