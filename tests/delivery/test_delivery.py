"""What a platform gets of a message: parts that a crash never repeats, files as far as they go, buttons, changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from host.central import deliveries, questions
from host.central.database import Transaction
from host.central.deliveries import Delivery
from host.channels.memory import MemoryChannel
from host.channels.protocol import Capabilities, ChannelUnavailable, DeliveryRefused, Outgoing
from host.delivery.outgoing import outgoing_of
from host.delivery.parts import parts_of
from host.routing.event import ChatGone, Event, RemoteFile
from shared_schema.clock import to_text
from shared_schema.layout import DataLayout
from shared_schema.rows import Address, MessageOutKind, encode
from tests.support.host import Host, running
from tests.support.transaction import at
from tests.support.wait import until

MB = 1024**2
CHAT = Address("memory", "one")


@dataclass
class Platform(MemoryChannel):
    """A platform with short messages, whose calls end as a test says: `ends` has an error, or None for a good one."""

    can: Capabilities = field(default_factory=Capabilities)
    ends: list[Exception | None] = field(default_factory=list)
    edited: list[tuple[str, str]] = field(default_factory=list)
    reacted: list[tuple[str, str | None]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        return self.can

    async def deliver(self, message: Outgoing) -> str | None:
        error = self.ends.pop(0) if self.ends else None
        if error is not None:
            raise error
        return await super().deliver(message)

    async def edit(self, address: Address, platform_message_id: str, text: str, buttons: Any) -> None:
        self.edited.append((platform_message_id, text))

    async def react(self, address: Address, platform_message_id: str, emoji: str | None) -> None:
        self.reacted.append((platform_message_id, emoji))

    async def download(self, file: RemoteFile, target: Path) -> None:
        if file.reference not in self.files:
            raise DeliveryRefused("it was deleted there")
        await asyncio.to_thread(target.write_bytes, self.files[file.reference])


SHORT = Capabilities(max_text=20, edits=True, reactions=True, buttons=True)


@asynccontextmanager
async def host_with(data: Path, platform: Platform) -> AsyncIterator[Host]:
    async with running(data, channel=platform) as host:
        yield host


LONG = "one two three four. five six seven. eight nine ten."
PARTS = ["scripted: one two", "three four.", "five six seven.", "eight nine ten."]


async def test_a_long_answer_goes_out_in_parts(tmp_path: Path) -> None:
    async with host_with(tmp_path, Platform(idempotent=False, can=SHORT)) as host:
        await host.say(LONG, message_id="p-1")
        sent = await host.channel.wait_for(4)
        await host.settled()
        (row,) = await host.central("SELECT status, parts_sent, platform_message_id FROM deliveries")

    assert [message.text for message in sent] == PARTS
    assert [message.reply_to for message in sent] == ["p-1", None, None, None]
    assert len({message.key for message in sent}) == 4
    assert row == {"status": "delivered", "parts_sent": 3, "platform_message_id": "mem-1"}


async def test_a_part_that_fails_is_tried_again_and_the_ones_before_it_are_not(tmp_path: Path) -> None:
    platform = Platform(idempotent=False, can=SHORT)
    platform.ends = [None, None, ChannelUnavailable("down")]
    async with host_with(tmp_path, platform) as host:
        await host.say(LONG)
        sent = await host.channel.wait_for(4)

    assert [message.text for message in sent] == PARTS


async def test_a_part_that_may_have_arrived_is_not_sent_twice_and_the_rest_follows(tmp_path: Path) -> None:
    platform = Platform(idempotent=False, can=SHORT)
    platform.ends = [None, ConnectionResetError()]
    async with host_with(tmp_path, platform) as host:
        await host.say(LONG)
        sent = await host.channel.wait_for(3)
        await host.settled()
        (row,) = await host.central("SELECT status FROM deliveries")

    assert [message.text for message in sent] == [PARTS[0], *PARTS[2:]]
    assert row["status"] == "uncertain"


async def test_after_a_crash_between_parts_the_rest_is_sent_and_nothing_twice(tmp_path: Path) -> None:
    async with host_with(tmp_path, Platform(idempotent=False, can=SHORT)) as host:
        await host.say("hello")
        await host.channel.wait_for(1)
        await host.settled()
        (before,) = await host.central("SELECT session_id FROM deliveries")

        def sent_in_part(tx: Transaction) -> None:  # in one commit: a host delivers what it finds between two
            deliveries.add(
                tx, message_out_id="msg_00000000000000aa", session_id=before["session_id"],
                kind=MessageOutKind.CHAT, channel_type="memory", platform_id="one", thread_id=None,
                content=encode({"text": LONG}), created_at="2026-01-01T00:00:00.000Z")  # fmt: skip
            tx.execute("UPDATE deliveries SET status = 'sending', parts = 3, parts_sent = 1 WHERE attempts = 0")

        await host.services.central.write(sent_in_part)
    after = Platform(idempotent=False, can=SHORT)
    async with host_with(tmp_path, after) as host:
        sent = await after.wait_for(1)
        await host.settled()
        rows = await host.central("SELECT status FROM deliveries ORDER BY position")

    assert [message.text for message in sent] == ["eight nine ten."]
    assert [row["status"] for row in rows] == ["delivered", "uncertain"]


def outgoing(text: str, *files: Path) -> Outgoing:
    return Outgoing("k", CHAT, MessageOutKind.CHAT, text, files=files)


def test_a_file_that_is_too_large_is_said_and_the_text_goes(tmp_path: Path) -> None:
    large, small = tmp_path / "film.mp4", tmp_path / "note.txt"
    large.write_bytes(b"x" * (2 * MB))
    small.write_bytes(b"x")

    (only,) = parts_of(outgoing("look", large, small), Capabilities(max_file_bytes=MB))

    assert only.text == "look\n\n(The file film.mp4 is left out: it has 2.0 MB, and 1.0 MB are the most here.)"
    assert only.files == (small,)
    (none,) = parts_of(outgoing("", small), Capabilities(takes_files=False))
    assert (none.text, none.files) == ("(The file note.txt is left out: there are no files here.)", ())


async def test_edits_and_reactions_of_an_agent_change_what_was_sent(tmp_path: Path) -> None:
    platform = Platform(idempotent=False, can=SHORT)
    async with host_with(tmp_path, platform) as host:
        await host.say("hello", message_id="p-7")
        await platform.wait_for(1)
        await host.settled()
        (said,) = await host.central("SELECT session_id, message_out_id, in_reply_to FROM deliveries")

        async def queue(number: int, kind: MessageOutKind, content: dict[str, Any]) -> None:
            await host.services.central.write(
                deliveries.add, message_out_id=f"msg_00000000000000a{number}", session_id=said["session_id"], kind=kind,
                    channel_type="memory", platform_id="one", thread_id=None, content=encode(content),
                    created_at="2026-01-01T00:00:00.000Z")  # fmt: skip
            host.services.deliverer.kick(("memory", "one"))

        await queue(1, MessageOutKind.EDIT, {"text": "better", "edit": said["message_out_id"]})
        await queue(2, MessageOutKind.REACTION, {"text": "👍", "react_to": said["in_reply_to"], "emoji": "👍"})
        await queue(3, MessageOutKind.EDIT, {"text": "of nobody", "edit": "msg_ffffffffffffffff"})
        await host.settled()
        rows = await host.central("SELECT status, error FROM deliveries WHERE kind = 'edit' ORDER BY position")

    assert platform.edited == [("mem-1", "better")]
    assert platform.reacted == [("p-7", "👍")]
    assert [row["status"] for row in rows] == ["delivered", "failed"]


async def test_files_of_a_platform_are_fetched_and_one_that_is_not_there_is_said(tmp_path: Path) -> None:
    platform = Platform(can=Capabilities(idempotent=True), files={"f1": b"milk"})
    files = (RemoteFile("list.txt", "f1", 4), RemoteFile("gone.png", "f2", 9), RemoteFile("film.mp4", "f3", 10**12))
    async with host_with(tmp_path, platform) as host:
        await platform.receive(Event(CHAT, "p-1", "look", sender_id="ann", remote_files=files))
        layout = await host.session()
        await platform.wait_for(1)
        (row,) = await host.central("SELECT content FROM ingest")
        saved = [path.read_bytes() for path in layout.inbox.rglob("list.txt")]
        receipt = await platform.receive(
            Event(Address("memory", "nowhere"), "p-2", "", sender_id="ann", remote_files=files)
        )
        left = [path for path in (tmp_path / "downloads").rglob("*") if path.is_file()]

    assert saved == [b"milk"]
    assert "[the file gone.png is not here: it was deleted there]" in row["content"]
    assert "[the file film.mp4 is not here: it has 1000000000000 bytes" in row["content"]
    assert receipt.accepted == ()
    assert left == []


async def test_what_waits_for_a_chat_that_is_gone_is_given_up_once(tmp_path: Path) -> None:
    platform = Platform(can=Capabilities(idempotent=True))
    async with host_with(tmp_path, platform) as host:
        platform.is_down = True
        await host.say("hello")
        await until(lambda: platform.attempts > 0, "it was tried")
        await platform.receive(ChatGone(CHAT, "the bot was blocked"))
        await host.settled()
        (row,) = await host.central("SELECT status, error FROM deliveries")

    assert row == {"status": "failed", "error": "the chat is gone: the bot was blocked"}


async def test_a_question_has_buttons_and_says_when_it_is_answered(tmp_path: Path) -> None:
    platform = Platform(idempotent=False, can=Capabilities(edits=True, buttons=True))
    async with host_with(tmp_path, platform) as host:
        await host.say("hello")
        await platform.wait_for(1)
        await host.settled()
        (said,) = await host.central("SELECT session_id FROM deliveries")
        options = [{"id": "1", "label": "Yes"}, {"id": "2", "label": "No"}]
        question = "msg_00000000000000b1"
        asked = {"text": "Shall I?\n1. Yes\n2. No", "question": "Shall I?", "options": options}

        def ask(connection: Any) -> None:
            deliveries.add(
                connection, message_out_id=question, session_id=said["session_id"], kind=MessageOutKind.QUESTION,
                channel_type="memory", platform_id="one", thread_id=None, content=encode(asked),
                created_at="2026-01-01T00:00:00.000Z")  # fmt: skip
            route = connection.execute("SELECT route_id FROM sessions").fetchone()["route_id"]
            questions.ask(
                at(connection, to_text(host.services.clock.now())), session_id=said["session_id"], route_id=route,
                message_out_id=question, address=CHAT,
                sender_id="ann", expires=to_text(host.services.clock.now() + timedelta(minutes=5)))  # fmt: skip

        await host.services.central.write(ask)
        host.services.deliverer.kick(("memory", "one"))
        sent = await platform.wait_for(2)
        await host.say("yes, do")
        await until(lambda: platform.edited, "the question says that it is answered")

    assert [(button.label, button.value) for button in sent[1].buttons] == [
        ("Yes", f"answer:{question}:1"),
        ("No", f"answer:{question}:2"),
    ]
    assert platform.edited == [("mem-2", "Shall I?\n1. Yes\n2. No\n\n✓ yes, do")]


def test_a_question_with_a_thousand_options_goes_without_buttons(tmp_path: Path) -> None:
    """Its options stand in its text. No platform takes so many buttons, and the text is to arrive."""
    options = [{"id": str(number), "label": "x" * 10_000} for number in range(1_000)]
    row = Delivery(
        position=1, message_out_id="msg_00000000000000b1", session_id="ses_1", agent_group_id="agt_1", turn_id=None,
        in_reply_to=None, kind=MessageOutKind.QUESTION, from_host=0, channel_type="memory", platform_id="one",
        thread_id=None, content=encode({"text": "Which?", "options": options}), deliver_after=None, status="pending",
        attempts=0, lane="rte_1",
    )  # fmt: skip
    message = outgoing_of(row, DataLayout(tmp_path))
    assert (message.text, message.buttons) == ("Which?", ())
    few = replace(row, content=encode({"text": "Which?", "options": options[:2]}))
    assert [len(button.label) for button in outgoing_of(few, DataLayout(tmp_path)).buttons] == [60, 60]
