"""From an event to accepted messages, in one transaction."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from host.central import ingest, routes, sessions
from host.central.agent_groups import AgentGroup
from host.central.database import Central, Effect
from host.central.ingest import SessionHasNews
from host.central.messaging_groups import MessagingGroup
from host.routing.acceptance import Rules
from host.routing.event import Event, Receipt
from host.routing.router import Router
from host.sessions.attachments import Attachment, AttachmentRefused, FileLimits
from host.sessions.folder import Owner, make_data_folder
from shared_schema.clock import ManualClock
from shared_schema.errors import Conflict, DumbwaiterError, InvalidValue, NotFound
from shared_schema.layout import DataLayout
from shared_schema.rows import Address, decode
from tests.support.registry import open_central
from tests.support.transaction import at
from tests.support.wait import until
from tests.unit.registry import NOW, add_agent, add_chat, wire

LONGEST = 100
T = TypeVar("T")


class Desk:
    """A router on a data folder, and what it asked to be attended to."""

    def __init__(self, central: Central, layout: DataLayout, clock: ManualClock) -> None:
        self.central = central
        self.layout = layout
        self.attended: list[str] = []
        self.working: set[str] = set()
        self.router = Router(
            central,
            layout,
            clock,
            Rules(LONGEST, "UTC", lambda session_id: session_id in self.working),
            file_limits=FileLimits(3, 1000, 10_000),
        )
        central.dispatch = self._hear

    def _hear(self, effects: Sequence[Effect]) -> None:
        self.attended += [effect.session_id for effect in effects if isinstance(effect, SessionHasNews)]

    async def set_up(self, *names: str, **wiring: Any) -> list[AgentGroup]:
        """Agent groups, wired to the chat `memory:one`."""

        def store(connection: sqlite3.Connection) -> list[AgentGroup]:
            chat = add_chat(connection)
            agents = [add_agent(connection, name) for name in names]
            for agent in agents:
                wire(connection, chat, agent, **wiring)
            return agents

        return await self.central.write(store)

    async def take(self, text: str = "hello", **changes: Any) -> Receipt:
        """One event."""
        values: dict[str, Any] = {"address": Address("memory", "one"), "platform_message_id": "p1", "sender_id": "ann"}
        return await self.router.ingest(Event(text=text, **(values | changes)))

    async def rows(self, statement: str = "SELECT * FROM ingest ORDER BY position") -> list[dict[str, Any]]:
        found = await self.central.read(lambda c: c.execute(statement).fetchall())
        return [dict(row) for row in found]

    async def dropped(self) -> list[tuple[str, str]]:
        rows = await self.rows("SELECT * FROM dropped_messages ORDER BY position")
        return [(f"{row['channel_type']}:{row['platform_id']}", row["reason"]) for row in rows]

    def spooled(self) -> list[str]:
        return sorted(str(path.relative_to(self.layout.spool)) for path in self.layout.spool.rglob("*"))


@pytest.fixture
def desk(tmp_path: Path, central: Central, clock: ManualClock) -> Desk:
    """The router under test."""
    layout = DataLayout(tmp_path)
    make_data_folder(layout, Owner.of_agents(10001))
    return Desk(central, layout, clock)


async def test_an_event_is_on_the_disk_when_the_channel_hears_of_it(desk: Desk) -> None:
    (agent,) = await desk.set_up("assistant")
    receipt = await desk.take("hello", sender_name="Ann")
    (accepted,) = receipt.accepted
    (row,) = await desk.rows()
    assert (accepted.agent_group, accepted.duplicate, receipt.dropped) == ("assistant", False, None)
    assert {name: row[name] for name in ("message_id", "session_id", "agent_group_id", "sender_name")} == {
        "message_id": accepted.message_id,
        "session_id": accepted.session_id,
        "agent_group_id": agent.id,
        "sender_name": "Ann",
    }
    assert (row["content"], row["state"], row["status"], row["accepted_at"]) == (
        '{"text":"hello"}',
        "accepted",
        "pending",
        NOW,
    )
    assert desk.attended == [accepted.session_id]


async def test_every_agent_group_of_a_chat_takes_the_event_in_a_session_of_its_own(desk: Desk) -> None:
    agents = await desk.set_up("one", "two", "three")
    receipt = await desk.take()
    assert sorted(accepted.agent_group for accepted in receipt.accepted) == ["one", "three", "two"]
    assert len({accepted.session_id for accepted in receipt.accepted}) == 3
    owners = {row["id"]: row["agent_group_id"] for row in await desk.rows("SELECT * FROM sessions")}
    assert sorted(owners.values()) == sorted(agent.id for agent in agents)
    for row in await desk.rows():
        assert owners[row["session_id"]] == row["agent_group_id"]
    assert sorted(desk.attended) == sorted(owners)


async def test_only_who_engages_takes_it(desk: Desk) -> None:
    await desk.set_up("assistant", engage="pattern", pattern="deploy")
    assert (await desk.take("hello")).dropped == "no agent group engages with this message"
    assert len((await desk.take("deploy", platform_message_id="p2")).accepted) == 1
    assert len(await desk.rows("SELECT * FROM sessions")) == 1


async def test_an_agent_group_that_cannot_be_routed_to_does_not_keep_others_from_taking_it(desk: Desk) -> None:
    def store(connection: sqlite3.Connection) -> None:
        chat = add_chat(connection)
        wire(connection, chat, add_agent(connection, "first"))
        wire(connection, chat, add_agent(connection, "personal"), per_user=True)
        wire(connection, chat, add_agent(connection, "last"))

    await desk.central.write(store)
    receipt = await desk.take(sender_id=None)
    assert sorted(accepted.agent_group for accepted in receipt.accepted) == ["first", "last"]
    assert await desk.dropped() == []


async def test_when_nobody_can_be_routed_to_the_reason_is_kept(desk: Desk) -> None:
    await desk.set_up("personal", per_user=True)
    receipt = await desk.take(sender_id=None)
    assert (receipt.accepted, receipt.dropped is not None and "without a sender" in receipt.dropped) == ((), True)
    assert await desk.dropped() == [("memory:one", receipt.dropped)]
    assert await desk.rows("SELECT * FROM sessions") == []


async def test_an_event_from_an_unknown_chat_is_recorded_and_leaves_nothing_else(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    file.write_text("bytes")
    receipt = await desk.take(address=Address("memory", "nowhere"), attachments=(Attachment("file.txt", file),))
    assert receipt == Receipt((), "no messaging group memory:nowhere is registered")
    assert await desk.dropped() == [("memory:nowhere", receipt.dropped)]
    assert await desk.rows() == await desk.rows("SELECT * FROM sessions") == []
    assert (desk.spooled(), desk.attended) == ([], [])


async def test_a_chat_nobody_is_wired_to_is_recorded_as_such(desk: Desk) -> None:
    await desk.set_up()
    assert (await desk.take()).dropped == "no agent group is wired to it"


async def test_the_same_event_twice_is_one_message_in_one_session(desk: Desk) -> None:
    await desk.set_up("one", "two")
    first, again = await desk.take(), await desk.take("edited meanwhile")
    assert [a.message_id for a in again.accepted] == [a.message_id for a in first.accepted]
    assert [a.session_id for a in again.accepted] == [a.session_id for a in first.accepted]
    assert {a.duplicate for a in first.accepted} == {False}
    assert {a.duplicate for a in again.accepted} == {True}
    assert [row["content"] for row in await desk.rows()] == ['{"text":"hello"}'] * 2
    assert len(await desk.rows("SELECT * FROM sessions")) == 2


async def test_a_duplicate_that_comes_after_a_reset_makes_no_session(desk: Desk) -> None:
    await desk.set_up("assistant")
    (accepted,) = (await desk.take()).accepted

    def reset(connection: sqlite3.Connection) -> None:
        session = sessions.get(connection, accepted.session_id)
        routes.leave_route(connection, session)
        sessions.end(at(connection, "2026-01-01T00:00:00.000Z"), session.id, "new")

    await desk.central.write(reset)
    (again,) = (await desk.take()).accepted
    assert (again.message_id, again.session_id, again.duplicate) == (accepted.message_id, accepted.session_id, True)
    assert len(await desk.rows("SELECT * FROM sessions")) == 1


async def test_the_same_event_many_times_at_once_is_one_message(desk: Desk) -> None:
    await desk.set_up("assistant")
    receipts = await asyncio.gather(*(desk.take() for _ in range(30)))
    assert len({receipt.accepted[0].message_id for receipt in receipts}) == 1
    assert sum(not receipt.accepted[0].duplicate for receipt in receipts) == 1
    assert len(await desk.rows()) == len(await desk.rows("SELECT * FROM sessions")) == 1


async def test_first_messages_at_the_same_moment_share_the_session(desk: Desk) -> None:
    await desk.set_up("assistant")
    receipts = await asyncio.gather(*(desk.take(platform_message_id=f"p{number}") for number in range(30)))
    assert len({receipt.accepted[0].session_id for receipt in receipts}) == 1
    assert len(await desk.rows()) == 30


async def test_a_text_that_is_too_long_comes_whole_as_a_file_and_its_beginning_says_so(desk: Desk) -> None:
    await desk.set_up("assistant")
    await desk.take("x" * LONGEST, platform_message_id="fits")
    await desk.take("x" * LONGEST + "y", platform_message_id="cut")
    rows = await desk.rows()
    fits, cut = [decode(row["content"]) for row in rows]
    assert fits == {"text": "x" * LONGEST}
    assert cut["text"] == "x" * LONGEST + "\n[this message has 101 characters: all of it is in the file message.txt]"
    assert [file["name"] for file in cut["files"]] == ["message.txt"]
    assert desk.spooled() == [rows[1]["spool"], f"{rows[1]['spool']}/message.txt"]
    assert (desk.layout.spool / rows[1]["spool"] / "message.txt").read_text() == "x" * LONGEST + "y"
    await desk.take("y" * 5_000, platform_message_id="larger than a file may be")
    assert [name for name in desk.spooled() if name.endswith(".txt")] != []


@pytest.mark.parametrize("text", ["", " ", "\n\t \r", "\u00a0\u2003", "\u200b\ufeff", "\u2800 \u3164"])
async def test_a_message_of_blanks_is_dropped(desk: Desk, text: str) -> None:
    await desk.set_up("assistant")
    assert (await desk.take(text)).dropped == "there is nothing in the message"
    assert await desk.rows() == []


async def test_half_characters_become_question_marks(desk: Desk) -> None:
    await desk.set_up("assistant")
    await desk.take("a\ud800b 🐢", sender_name="An\udfffn")
    (row,) = await desk.rows()
    assert (decode(row["content"]), row["sender_name"]) == ({"text": "a?b 🐢"}, "An?n")


async def test_half_characters_do_not_keep_a_pattern_from_engaging(desk: Desk) -> None:
    await desk.set_up("assistant", engage="pattern", pattern="deploy")
    assert len((await desk.take("deploy \ud83d")).accepted) == 1


@pytest.mark.parametrize("bad", ["", "a\nb", "a\x00b", "\x1b[31m", "a\u202eb", "\ud800", "x" * 501])
@pytest.mark.parametrize(
    "place",
    [
        lambda bad: {"address": Address("memory", bad)},
        lambda bad: {"address": Address("memory", "one", bad)},
        lambda bad: {"sender_id": bad},
        lambda bad: {"platform_message_id": bad},
    ],
    ids=["chat", "thread", "sender", "message id"],
)
async def test_an_id_with_control_characters_is_refused_and_nothing_is_kept(
    desk: Desk, tmp_path: Path, bad: str, place: Callable[[str], dict[str, Any]]
) -> None:
    await desk.set_up("assistant")
    file = tmp_path / "file.txt"
    file.write_text("bytes")
    with pytest.raises(InvalidValue, match="of an event cannot be an identifier") as caught:
        await desk.take(attachments=(Attachment("file.txt", file),), **place(bad))
    assert str(caught.value).isprintable()
    assert await desk.rows() == await desk.rows("SELECT * FROM dropped_messages") == []
    assert desk.spooled() == []


async def test_files_are_kept_until_they_are_in_a_session(desk: Desk, tmp_path: Path) -> None:
    await desk.set_up("one", "two")
    file = tmp_path / "file.txt"
    file.write_text("bytes")
    await desk.take(attachments=(Attachment("../../a.txt", file), Attachment("a.txt", file)))
    rows = await desk.rows()
    (spool,) = {row["spool"] for row in rows}
    assert desk.spooled() == [spool, f"{spool}/a-2.txt", f"{spool}/a.txt"]
    for row in rows:
        assert decode(row["content"])["files"] == [
            {"name": name, "path": f"inbox/{row['message_id']}/{name}"} for name in ("a.txt", "a-2.txt")
        ]


async def test_a_duplicate_s_files_are_not_kept_and_the_first_one_s_are(desk: Desk, tmp_path: Path) -> None:
    await desk.set_up("assistant")
    file = tmp_path / "file.txt"
    file.write_text("bytes")
    await desk.take(attachments=(Attachment("a.txt", file),))
    before = desk.spooled()
    await desk.take(attachments=(Attachment("a.txt", file),))
    assert desk.spooled() == before
    assert len(before) == 2


@pytest.mark.parametrize("event", [{"platform_message_id": ""}, {"agent_group": "nobody"}, {"session_id": "ses_1"}])
async def test_files_of_an_event_that_is_refused_are_not_kept(
    desk: Desk, tmp_path: Path, event: dict[str, Any]
) -> None:
    await desk.set_up("assistant")
    file = tmp_path / "file.txt"
    file.write_text("bytes")
    with pytest.raises(DumbwaiterError):
        await desk.take(attachments=(Attachment("a.txt", file),), **event)
    assert desk.spooled() == []


async def test_too_many_files_are_refused_before_anything_is_accepted(desk: Desk, tmp_path: Path) -> None:
    await desk.set_up("assistant")
    file = tmp_path / "file.txt"
    file.write_text("bytes")
    with pytest.raises(AttachmentRefused, match="4 files came with one message, and 3 are allowed"):
        await desk.take(attachments=(Attachment("a.txt", file),) * 4)
    assert (await desk.rows(), desk.spooled()) == ([], [])


class AnnouncingCentral(Central):
    """Says when a write was asked for."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked = asyncio.Event()

    async def write(self, run: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        self.asked.set()
        return await super().write(run, *args, **kwargs)


@pytest.fixture
async def announcing(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Desk]:
    """A router whose test hears of every write."""
    layout = DataLayout(tmp_path)
    make_data_folder(layout, Owner.of_agents(10001))
    central = open_central(layout.central, clock, AnnouncingCentral)
    yield Desk(central, layout, clock)
    await asyncio.to_thread(central.close)


async def cancelled_in_mid_write(desk: Desk, **event: Any) -> None:
    """Hand over an event, and lose patience when the ledger has been asked to take it and has not done so yet."""
    assert isinstance(desk.central, AnnouncingCentral)
    leave = threading.Event()
    desk.central.asked.clear()
    blocker = asyncio.create_task(desk.central.write(lambda connection: leave.wait(20)))
    await desk.central.asked.wait()
    desk.central.asked.clear()
    task = asyncio.create_task(desk.take(**event))
    try:
        await desk.central.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        leave.set()
    assert await blocker
    await desk.central.write(lambda connection: None)


async def test_a_channel_that_loses_patience_loses_no_files(announcing: Desk, tmp_path: Path) -> None:
    desk = announcing
    await desk.set_up("assistant")
    file = tmp_path / "file.txt"
    file.write_text("bytes")
    await cancelled_in_mid_write(desk, attachments=(Attachment("a.txt", file),))
    (row,) = await desk.rows()
    assert desk.spooled() == [row["spool"], f"{row['spool']}/a.txt"]


async def test_an_event_whose_channel_lost_patience_is_attended_to_nevertheless(announcing: Desk) -> None:
    desk = announcing
    await desk.set_up("assistant")
    await cancelled_in_mid_write(desk)
    (row,) = await desk.rows()
    await until(lambda: desk.attended == [row["session_id"]], "the session was attended to")
    (accepted,) = (await desk.take()).accepted
    assert (accepted.message_id, accepted.duplicate) == (row["message_id"], True)


async def test_an_event_can_be_meant_for_one_agent_group(desk: Desk) -> None:
    await desk.set_up("one", "two", engage="mention")
    receipt = await desk.take(agent_group="two")
    assert [accepted.agent_group for accepted in receipt.accepted] == ["two"]
    with pytest.raises(NotFound, match="memory:one is not wired to 'three'"):
        await desk.take(agent_group="three")


async def test_an_event_can_be_meant_for_one_session_while_it_lasts(desk: Desk) -> None:
    await desk.set_up("assistant")
    (accepted,) = (await desk.take()).accepted
    receipt = await desk.take(session_id=accepted.session_id, platform_message_id="p2")
    assert receipt.accepted[0].session_id == accepted.session_id

    def reset(connection: sqlite3.Connection) -> None:
        session = sessions.get(connection, accepted.session_id)
        routes.leave_route(connection, session)

    await desk.central.write(reset)
    with pytest.raises(Conflict, match="has ended"):
        await desk.take(session_id=accepted.session_id, platform_message_id="p3")
    with pytest.raises(NotFound):
        await desk.take(session_id="ses_0123456789abcdef", platform_message_id="p4")


@pytest.mark.parametrize(
    ("mode", "threads", "count"),
    [("shared", [None, "t1", "t2"], 1), ("per-thread", [None, "t1", "t2", "t1"], 3), ("agent-shared", [None, "t1"], 1)],
)
async def test_the_session_mode_says_which_messages_share_a_session(
    desk: Desk, mode: str, threads: list[str | None], count: int
) -> None:
    await desk.set_up("assistant", session_mode=mode)
    for number, thread in enumerate(threads):
        await desk.take(address=Address("memory", "one", thread), platform_message_id=f"p{number}")
    rows = await desk.rows("SELECT * FROM sessions ORDER BY created_at, id")
    assert len(rows) == count
    assert {row["thread_id"] for row in rows} == (set(threads) if mode == "per-thread" else {None})
    assert [row["thread_id"] for row in await desk.rows()] == threads


async def test_agent_shared_crosses_chats_and_answers_where_the_newest_message_came_from(desk: Desk) -> None:
    def store(connection: sqlite3.Connection) -> list[MessagingGroup]:
        agent = add_agent(connection)
        chats = [add_chat(connection, name) for name in ("one", "two")]
        for chat in chats:
            wire(connection, chat, agent, session_mode="agent-shared")
        return chats

    await desk.central.write(store)
    first = await desk.take(address=Address("memory", "one"))
    second = await desk.take(address=Address("memory", "two"))
    session_id = first.accepted[0].session_id
    assert second.accepted[0].session_id == session_id
    assert await desk.central.read(ingest.last_address, session_id) == Address("memory", "two")
