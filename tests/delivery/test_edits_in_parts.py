"""A message that went out in several: edits that grow and shrink it, and what people do with a later part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from host.central import deliveries
from host.channels.memory import MemoryChannel
from host.channels.protocol import Capabilities, ChannelUnavailable, Outgoing
from host.routing.event import Event
from shared_schema.rows import Address, MessageOutKind, encode
from tests.support.host import Host, running

CHAT = Address("memory", "one")
THREE = "aaaa bbbb cccc.\n\ndddd eeee ffff.\n\ngggg hhhh iiii."
PARTS = ["aaaa bbbb cccc.", "dddd eeee ffff.", "gggg hhhh iiii."]


@dataclass
class Wall(MemoryChannel):
    """A platform that shows what stands there: `shown` is the text of each message by its id. The next calls fail."""

    can: Capabilities = field(default_factory=lambda: Capabilities(max_text=20, edits=True, deletes=True))
    shown: dict[str, str] = field(default_factory=dict)
    fails: list[bool] = field(default_factory=list)

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        return self.can

    async def deliver(self, message: Outgoing) -> str | None:
        self._maybe_fail()
        made = await super().deliver(message)
        assert made is not None
        self.shown[made] = message.text
        return made

    async def edit(self, address: Address, platform_message_id: str, text: str, buttons: Any) -> None:
        self._maybe_fail()
        assert platform_message_id in self.shown
        self.shown[platform_message_id] = text

    async def delete(self, address: Address, platform_message_id: str) -> None:
        self._maybe_fail()
        self.shown.pop(platform_message_id, None)

    def _maybe_fail(self) -> None:
        if self.fails and self.fails.pop(0):
            raise ChannelUnavailable("down for a moment")


class Talk:
    """A host whose agent has said something in three messages, and edits that."""

    def __init__(self, host: Host, session_id: str) -> None:
        self.host = host
        self.session_id = session_id
        self._number = 0

    async def queue(self, kind: MessageOutKind, content: dict[str, Any]) -> str:
        self._number += 1
        message_id = f"msg_00000000000000a{self._number}"
        await self.host.services.central.write(
            lambda c: deliveries.add(
                c, message_out_id=message_id, session_id=self.session_id, kind=kind, channel_type="memory",
                platform_id="one", thread_id=None, content=encode(content), created_at="2026-01-01T00:00:00.000Z",
            )
        )  # fmt: skip
        self.host.services.deliverer.kick(("memory", "one"))
        await self.host.settled()
        return message_id

    async def edit(self, target: str, text: str) -> dict[str, Any]:
        edit = await self.queue(MessageOutKind.EDIT, {"text": text, "edit": target})
        (row,) = await self.host.central(f"SELECT status, error FROM deliveries WHERE message_out_id = '{edit}'")
        return dict(row)


@asynccontextmanager
async def talk(data: Path, wall: Wall) -> AsyncIterator[tuple[Talk, str]]:
    """A talk, and our id of what was said in three messages."""
    async with running(data, channel=wall) as host:
        await host.say("hi")
        await wall.wait_for(1)
        await host.settled()
        (row,) = await host.central("SELECT session_id FROM deliveries")
        there = Talk(host, row["session_id"])
        said = await there.queue(MessageOutKind.CHAT, {"text": THREE})
        wall.shown = {key: text for key, text in wall.shown.items() if key != "mem-1"}
        yield there, said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one", ["one"]),
        ("aaaa bbbb cccc.\n\nnnnn nnnn nnnn.", ["aaaa bbbb cccc.", "nnnn nnnn nnnn."]),
        (f"{THREE}\n\njjjj kkkk llll.", [*PARTS, "jjjj kkkk llll."]),
    ],
    ids=["to one", "to two", "to four"],
)
async def test_an_edit_brings_a_message_to_as_many_parts_as_it_needs(
    tmp_path: Path, text: str, shown: list[str]
) -> None:
    wall = Wall()
    async with talk(tmp_path, wall) as (there, said):
        assert list(wall.shown.values()) == PARTS
        assert (await there.edit(said, text))["status"] == "delivered"
        assert list(wall.shown.values()) == shown
        # And back: what has grown or shrunk is known with all its parts.
        assert (await there.edit(said, THREE))["status"] == "delivered"
        assert list(wall.shown.values()) == PARTS
        assert (await there.edit(said, "short"))["status"] == "delivered"
        assert list(wall.shown.values()) == ["short"]


async def test_an_edit_whose_calls_fail_goes_on_where_it_was(tmp_path: Path) -> None:
    wall = Wall(fails=[])
    async with talk(tmp_path, wall) as (there, said):
        wall.fails = [False, True, False, True, False, True]
        assert (await there.edit(said, "only"))["status"] == "delivered"
        assert list(wall.shown.values()) == ["only"]
        wall.fails = [False, True, False, True]
        assert (await there.edit(said, THREE))["status"] == "delivered"
        assert list(wall.shown.values()) == PARTS


async def test_where_nothing_can_be_taken_away_a_part_says_that_it_is_not_needed(tmp_path: Path) -> None:
    wall = Wall(can=Capabilities(max_text=20, edits=True))
    async with talk(tmp_path, wall) as (there, said):
        await there.edit(said, "only")
        assert [text[:12] for text in wall.shown.values()] == ["only", "(This part o", "(This part o"]


async def test_a_message_whose_parts_are_not_all_known_is_not_changed_in_half(tmp_path: Path) -> None:
    wall = Wall()
    async with talk(tmp_path, wall) as (there, said):
        await there.host.services.central.write(lambda c: c.execute("DELETE FROM delivery_parts WHERE number = 2"))
        answer = await there.edit(said, "other")
    assert answer["status"] == "failed"
    assert answer["error"] == "it went out in 3 messages, and it is not known which all of them are"
    assert list(wall.shown.values())[:3] == PARTS


async def test_a_reply_to_a_later_part_is_a_reply_to_the_message(tmp_path: Path) -> None:
    wall = Wall()
    async with talk(tmp_path, wall) as (there, said):
        later = list(wall.shown)[2]
        await wall.receive(Event(CHAT, "p-9", "why?", sender_id="ann", reply_to=later))
        await there.host.settled()
        (row,) = await there.host.central("SELECT content FROM ingest WHERE platform_message_id = 'p-9'")
    assert f'"message":"{said}"' in row["content"]
    assert '"text":"aaaa bbbb cccc. dddd' in row["content"]
