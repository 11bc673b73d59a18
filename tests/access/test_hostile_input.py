"""What a platform hands over beside messages may be anything: it is refused or taken, and raises nothing unforeseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.routing.event import Clicked, Deleted, Edited, Incoming, Joined
from shared_schema.errors import InvalidValue
from shared_schema.rows import Address
from tests.access.people import OWNERS_CHAT, chat, owner, said_in, write
from tests.support.host import running

HERE = Address("memory", "dm")
ODD = ("\ud800", "", "x" * 10_000, "a\x00b", "\u202eabc", "a\nb")


def everything(odd: str) -> list[Incoming]:
    """Events with one odd field each."""
    return [
        Edited(Address("memory", odd), "p1", "text"),
        Edited(HERE, odd, "text"),
        Edited(HERE, "p1", odd),
        Edited(HERE, "p1", "text", odd),
        Deleted(HERE, odd),
        Clicked(HERE, odd, "approval:ABCDEF:1", "c", "sam"),
        Clicked(HERE, "m", odd, "c", "sam"),
        Clicked(HERE, "m", f"approval:{odd}:1", "c", "olga"),
        Clicked(HERE, "m", f"approval:ABCDEF:{odd}", "c", "olga"),
        Clicked(HERE, "m", f"answer:{odd}:1", "c", "sam"),
        Clicked(HERE, "m", "approval:ABCDEF:1", odd, "sam"),
        Clicked(HERE, "m", "approval:ABCDEF:1", "c", odd),
        Clicked(HERE, "m", "approval:ABCDEF:1", "c", "sam", odd),
        Joined(Address("memory", odd)),
        Joined(HERE, odd, sender_id=odd or None, sender_name=odd),
    ]


@pytest.mark.parametrize("odd", ODD, ids=["surrogate", "empty", "huge", "zero", "bidirectional", "lines"])
async def test_odd_fields_are_refused_or_taken(odd: str, tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await owner(host)
        await chat(host, "dm")
        for event in everything(odd):
            try:
                receipt = await host.channel.receive(event)
            except InvalidValue:
                continue
            assert receipt.accepted == ()


async def test_a_stranger_with_an_odd_name_and_text_is_asked_about(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await owner(host)
        await chat(host, "dm")
        await write(host, "hi \ud800 there\u202e", where="dm", sender_name="\ud800Sam\u202e\n" * 50)
        (card,) = await said_in(host, OWNERS_CHAT)
        card.text.encode("utf-8")
        assert "\u202e" not in card.text
        await write(host, "hello", where="new\u2713", is_group=False, chat_name="\ud800" * 300, sender_name="\ud800")
        assert len(await said_in(host, OWNERS_CHAT, 2)) == 2
