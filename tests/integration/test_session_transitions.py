"""The life of a conversation, with a real host and real agents: what people see of it, and what the agent knows."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from host.central import sessions
from host.operations import session_stop
from host.operations.prune import remove_deleted
from host.sessions.attachments import Attachment
from shared_schema.errors import Conflict, InvalidValue, NotFound
from shared_schema.layout import SessionLayout
from tests.support.chats import hears, is_working_on
from tests.support.clocks import JumpingClock
from tests.support.host import AGENT, CHAT, Host, rows, running
from tests.support.wait import ENDS_WITHIN, until

HOUR = 3600.0


async def present(host: Host) -> dict[str, Any]:
    """The session the chat goes on in."""
    listed = [each for each in await host.do("session.list") if each["status"] in ("active", "archived")]
    assert len(listed) == 1
    return dict(listed[0])


def _file(folder: Path, name: str) -> Attachment:
    path = folder / name
    path.write_bytes(b"north")
    return Attachment(name, path)


async def recall(host: Host) -> str:
    """How many steps the agent knows, and the last words it heard."""
    return await host.ask("recall")


async def test_a_fresh_conversation_knows_nothing_of_the_old_one(tmp_path: Path) -> None:
    """FAILURES 29."""
    async with running(tmp_path) as host:
        await host.ask("the secret is blue")
        old = await present(host)
        fresh = await host.do("session.new", session=old["id"])
        assert (fresh["parent_id"], fresh["parent_relation"]) == (old["id"], "reset")
        assert (await recall(host)).startswith("0 steps")
        ended = await host.do("session.show", session=old["id"])
        assert (ended["status"], ended["end_reason"]) == ("ended", "new")


async def test_the_note_of_a_reset_is_told_once(tmp_path: Path) -> None:
    """FAILURES 36."""
    async with running(tmp_path) as host:
        await host.ask("hello")
        await host.do("session.new", session=(await present(host))["id"])
        assert "new conversation" in await host.ask("note")
        assert "new conversation" not in await host.ask("note")


async def test_what_is_taken_back_the_agent_forgets_and_the_transcript_keeps(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("first")
        await host.ask("second")
        session = await present(host)
        assert await host.do("session.undo", session=session["id"]) == {
            "session_id": session["id"],
            "exchanges": 1,
            "messages": ["second"],
        }
        said = await recall(host)
        assert "first" in said
        assert "second" not in said
        assert "second" in [entry["text"] for entry in await host.do("session.transcript", session=session["id"])]


async def test_taking_back_while_the_agent_works_ends_its_turn_and_keeps_the_answer_back(tmp_path: Path) -> None:
    """FAILURES 20."""
    async with running(tmp_path) as host:
        await host.ask("hello")
        working = (await host.say("stall")).accepted[0]
        await is_working_on(await host.session(), working.message_id)
        await host.do("session.undo", session=working.session_id)
        assert await host.outcome(working.message_id) == "cancelled"
        assert await host.ask("and on") == "scripted: and on"
        runs = await host.central("SELECT run_id FROM sessions")
        assert len(runs) == 1


async def test_asking_again_answers_again_with_its_file(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.say("reply 1 look", files=[_file(tmp_path, "plan.txt")])
        await host.channel.wait_for(1)
        await host.settled()
        session = await present(host)
        assert (await host.do("session.retry", session=session["id"]))["messages"] == ["reply 1 look"]
        await host.channel.wait_for(2)
        await host.settled()
        assert host.texts() == ["look 1", "look 1"]
        folder = await host.session()
        contents = [
            row["content"] for row in rows(folder.inbound, "SELECT content FROM messages_in WHERE kind = 'chat'")
        ]
        assert len(contents) == 2
        assert all("plan.txt" in content for content in contents)


async def test_a_branch_goes_on_from_a_copy_and_leaves_the_first_as_it_was(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("the colour is red")
        await host.ask("never mind")
        source = await present(host)
        await host.do("session.undo", session=source["id"])
        copy = await host.do("session.branch", session=source["id"])
        assert (copy["parent_id"], copy["parent_relation"]) == (source["id"], "branched")
        said = await recall(host)
        assert "the colour is red" in said
        assert "never mind" not in said
        await host.do("session.resume", session=source["id"])
        assert (await present(host))["id"] == source["id"]
        assert "recall" not in (await recall(host)).split("steps")[1]


async def test_a_compressed_conversation_goes_on_from_its_summary_with_what_waited(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("one")
        await host.ask("two")
        parent = await present(host)
        child = await host.do("session.compress", session=parent["id"])
        assert (child["parent_id"], child["parent_relation"]) == (parent["id"], "compressed")
        assert "Summary of" in await recall(host)
        ended = await host.do("session.show", session=parent["id"])
        assert (ended["status"], ended["end_reason"]) == ("ended", "compressed")
        await host.do("session.new", session=child["id"])
        assert (await host.do("session.resume", session=parent["id"], agent_group=AGENT))["id"] == child["id"]


async def test_two_who_compress_at_once_get_one_child(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("one")
        parent = (await present(host))["id"]
        first, second = await asyncio.gather(*(host.do("session.compress", session=parent) for _ in range(2)))
        assert first["id"] == second["id"]
        assert len(await host.do("session.list")) == 2


async def test_what_waits_while_a_conversation_is_compressed_is_answered_in_the_child_with_its_files(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as host:
        await host.ask("one")
        parent = await present(host)
        errand = "errand think 0.3"
        await host.ask(errand)
        compressing = asyncio.create_task(host.do("session.compress", session=parent["id"]))

        async def asked() -> bool:
            return bool(
                await host.central("SELECT 1 FROM ingest WHERE kind = 'control' AND content LIKE '%summarize%'")
            )

        await until(asked, "the summary is asked for")
        waiting = (await host.say("meanwhile", files=[_file(tmp_path, "a.txt")])).accepted[0]
        child = await compressing
        await hears(host, "scripted: meanwhile")
        assert await host.outcome(waiting.message_id) == "completed"
        folder = SessionLayout(Path(child["path"]))
        assert (folder.inbox / waiting.message_id / "a.txt").read_bytes() == b"north"


@pytest.mark.parametrize("by_hand", [True, False], ids=["by hand", "by itself"])
async def test_what_was_said_and_waits_for_its_platform_is_sent_though_the_conversation_is_compressed(
    tmp_path: Path, by_hand: bool
) -> None:
    async with running(tmp_path) as host:
        await host.ask("one")
        await host.settled()
        host.channel.is_down = True
        asked = (await host.say("reply 1 kept" if by_hand else "fill 85 100\nreply 1 kept")).accepted[0]
        assert await host.outcome(asked.message_id) == "completed"
        if by_hand:
            await host.do("session.compress", session=asked.session_id)

        async def is_compressed() -> bool:
            return bool(await host.central("SELECT 1 FROM sessions WHERE parent_relation = 'compressed'"))

        await until(is_compressed, "it is compressed")
        host.channel.is_down = False
        await host.settled()
        told = [text for text in host.texts() if "nearly filled" not in text]
        assert told[:2] == ["scripted: one", "kept 1"]
        assert "was summed up" in told[2]
        (recorded,) = await host.central("SELECT status FROM deliveries WHERE content LIKE '%kept%'")
        assert recorded == {"status": "delivered"}


async def test_a_conversation_that_fills_the_window_is_compressed_by_itself_and_the_person_told(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("fill 84 100\nreply 1 enough")
        await host.ask("fill 85 100\nreply 1 full")
        await host.channel.wait_for(4)
        told = [message.text for message in host.channel.sent if message.from_host]
        assert "nearly filled" in told[0]
        assert "summed up" in told[1]
        session = await present(host)
        assert session["parent_relation"] == "compressed"
        assert "Summary of" in await recall(host)


async def test_a_summary_that_fails_is_told_once_and_not_tried_with_every_message(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("errand fail no paper")
        await host.ask("fill 90 100\nreply 1 full")
        await host.channel.wait_for(4)
        await host.say("fill 95 100\nreply 1 fuller")
        await hears(host, "fuller 1")
        await host.settled()
        told = [message.text for message in host.channel.sent if message.from_host]
        assert len(told) == 2
        assert "could not be compressed: no paper" in told[1]
        assert (await present(host))["parent_id"] is None


async def test_a_provider_that_cannot_summarize_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, provider="echo") as host:
        await host.ask("one")
        with pytest.raises(Conflict, match="cannot summarize"):
            await host.do("session.compress", session=(await present(host))["id"])
        assert (await present(host))["status"] == "active"


async def test_an_archived_conversation_refuses_with_a_sentence_until_it_is_taken_up_again(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        working = (await host.say("stall")).accepted[0]
        await is_working_on(await host.session(), working.message_id)
        assert (await host.do("session.archive", session=working.session_id))["status"] == "archived"
        assert await host.outcome(working.message_id) == "cancelled"
        assert "archived" in await host.ask("anybody?")
        refused = await host.central("SELECT status FROM ingest ORDER BY position DESC LIMIT 1")
        assert refused == [{"status": "failed"}]
        assert (await host.do("session.resume", session=working.session_id))["status"] == "active"
        assert await host.ask("anybody?") == "scripted: anybody?"


async def test_an_archived_conversation_opens_again_where_the_wiring_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("wiring.add", messaging_group=CHAT, agent_group=AGENT, archived="reopen")
        await host.ask("hello")
        session = await present(host)
        await host.do("session.archive", session=session["id"])
        assert await host.ask("again") == "scripted: again"
        await host.settled()  # whoever wrote had read all there was, and the answer is unread once it is recorded
        assert (await present(host)) | {"last_active": ""} == session | {
            "last_active": "",
            "title": (await present(host))["title"],
            "title_source": (await present(host))["title_source"],
            "unread": True,
            "unread_since": (await present(host))["unread_since"],
        }


async def test_a_deleted_session_can_be_restored_until_its_time_is_over(tmp_path: Path) -> None:
    """FAILURES 34."""
    clock = JumpingClock()
    async with running(tmp_path, clock=clock, deleted_hours=2) as host:
        await host.ask("hello")
        session = await present(host)
        assert (await host.do("session.delete", session=session["id"]))["restorable"]
        assert await host.do("session.list") == []
        with pytest.raises(NotFound):
            await host.do("session.transcript", session=session["id"])
        restored = await host.do("session.restore", session=session["id"])
        assert (restored["status"], restored["end_reason"]) == ("ended", "deleted")
        assert (await host.do("session.resume", session=session["id"]))["status"] == "active"
        assert "hello" in await recall(host)

        await host.do("session.delete", session=session["id"])
        clock.jump(2 * HOUR - 60)
        assert await remove_deleted(host.services) == 0
        clock.jump(120)
        assert await remove_deleted(host.services) == 1
        assert not Path(session["path"]).exists()
        with pytest.raises(NotFound):
            await host.do("session.restore", session=session["id"])
        assert await host.ask("a new one") == "scripted: a new one"


async def test_a_deleted_session_can_be_restored_by_its_title(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        session = (await present(host))["id"]
        await host.do("session.title", session=session, title="The garden")
        await host.do("session.delete", session=session)
        with pytest.raises(NotFound):
            await host.do("session.resume", session="The garden")
        assert (await host.do("session.restore", session="The garden"))["id"] == session


async def test_a_message_that_races_with_a_delete_begins_a_new_session_or_is_cancelled(tmp_path: Path) -> None:
    """FAILURES 34."""
    async with running(tmp_path) as host:
        for _ in range(5):
            first = (await host.say("hello")).accepted[0]
            _, receipt = await asyncio.gather(
                host.do("session.delete", session=first.session_id, for_good=True), host.say("at the same time")
            )
            message = receipt.accepted[0]
            assert await host.outcome(message.message_id) in ("completed", "cancelled")
        await host.settled()
        orphans = await host.central(
            """
            SELECT 1 FROM ingest
            WHERE status = 'pending' OR (session_id IS NOT NULL AND session_id NOT IN (SELECT id FROM sessions))
            """
        )
        assert orphans == []


async def test_only_what_ended_long_ago_is_pruned_and_only_when_that_is_asked_for(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path, clock=clock) as host:
        await host.ask("old")
        old = (await present(host))["id"]
        await host.do("session.new", session=old)
        clock.jump(100 * 24 * HOUR)
        await host.ask("young")
        young = (await present(host))["id"]
        await host.do("session.new", session=young)
        found = await host.do("session.prune", older_than_days=90.0)
        assert (found["pruned"], [each["id"] for each in found["sessions"]]) == (False, [old])
        assert len(await host.do("session.list")) == 3
        assert (await host.do("session.prune", older_than_days=90.0, apply=True))["pruned"]
        assert old not in [each["id"] for each in await host.do("session.list")]
        with pytest.raises(InvalidValue):
            await host.do("session.prune", older_than_days=-1.0)


async def test_a_rest_begins_a_new_conversation_and_the_person_is_told(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path, clock=clock) as host:
        await host.do("wiring.add", messaging_group=CHAT, agent_group=AGENT, reset="idle", reset_minutes=60)
        await host.ask("hello")
        await host.settled()
        old = await present(host)
        clock.jump(HOUR + 1)
        await host.say("note")
        await host.channel.wait_for(3)
        told, note = host.texts()[1:]
        assert told == (
            "A new conversation begins, because the last one had rested for more than an hour. /resume takes it up."
        )
        assert "rested for long" in note
        ended = await host.do("session.show", session=old["id"])
        assert (ended["status"], ended["end_reason"]) == ("ended", "idle")
        assert (await recall(host)).startswith("2 steps")


async def test_a_rest_without_an_exchange_is_told_to_nobody(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path, clock=clock) as host:
        await host.do("wiring.add", messaging_group=CHAT, agent_group=AGENT, reset="daily", reset_hour=4)
        await host.ask("fail on purpose")
        await host.settled()
        clock.jump(25 * HOUR)
        assert await host.ask("hello") == "scripted: hello"
        assert len(await host.do("session.list")) == 2


async def test_nothing_is_reset_while_the_agent_works(tmp_path: Path) -> None:
    """FAILURES 35."""
    clock = JumpingClock()
    async with running(tmp_path, clock=clock, turn_seconds=100_000) as host:
        await host.do("wiring.add", messaging_group=CHAT, agent_group=AGENT, reset="idle", reset_minutes=1)
        working = (await host.say("think 0.5")).accepted[0]
        await is_working_on(await host.session(), working.message_id)
        clock.jump(HOUR)
        assert (await host.say("hello")).accepted[0].session_id == working.session_id
        await host.channel.wait_for(2)
        assert host.texts() == ["thought for 0.5 s", "scripted: hello"]


@pytest.mark.parametrize("work", ["stall", "cling", "hang"])
async def test_whatever_an_agent_does_it_is_interrupted_within_two_seconds(tmp_path: Path, work: str) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        await host.ask("reply 1 said before")
        working = (await host.say(work)).accepted[0]
        await is_working_on(await host.session(), working.message_id)
        session = await host.services.central.read(sessions.get, working.session_id)
        began = time.monotonic()
        assert await session_stop.interrupt(host.services, session) == 1
        assert time.monotonic() - began < ENDS_WITHIN
        assert await host.outcome(working.message_id) == "cancelled"
        assert await host.ask("and on") == "scripted: and on"


async def test_a_session_of_another_agent_group_cannot_be_taken_up(tmp_path: Path) -> None:
    """FAILURES 39."""
    async with running(tmp_path) as host:
        await host.ask("hello")
        mine = await present(host)
        await host.do("agent_group.add", name="other", provider="scripted")
        with pytest.raises(NotFound):
            await host.do("session.resume", session=mine["id"], agent_group="other")


async def test_a_long_list_is_paged_without_gaps(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        for number in range(5):
            await host.do("messaging_group.add", address=f"memory:c{number}", unknown_sender="public")
            await host.do("wiring.add", messaging_group=f"memory:c{number}", agent_group=AGENT)
            await host.say(f"   hello\n  number {number} {'x' * 100}", chat=f"c{number}")
        await host.channel.wait_for(5)
        await host.settled()
        first = await host.do("session.list", limit=3)
        rest = await host.do("session.list", limit=3, after=f"{first[-1]['last_active']}/{first[-1]['id']}")
        assert [each["id"] for each in rest] == [
            each["id"] for each in await host.do("session.list", limit=3, after=first[-1]["id"])
        ]
        assert len({each["id"] for each in [*first, *rest]}) == 5
        previews = {each["preview"] for each in [*first, *rest]}
        assert {preview[:14] for preview in previews} == {f"hello number {number}" for number in range(5)}
        assert {len(preview) for preview in previews} == {60}
        listed = await host.do("session.list", terminal="1")
        await host.do("session.list", terminal="2", limit=1)
        assert await host.do("session.numbered", terminal="1", number="3") == {"id": listed[2]["id"]}
        assert await host.do("session.numbered", terminal="2", number="3") == {"id": None}
        assert await host.do("session.numbered", terminal="3", number="1") == {"id": None}
        for each in listed:
            assert (await host.do("session.show", session=each["short_id"]))["id"] == each["id"]
            assert len(each["short_id"]) >= 5
        only = await host.do("session.list", messaging_group=listed[3]["messaging_group"])
        assert [each["id"] for each in only] == [listed[3]["id"]]
        assert await host.do("session.list", channel="telegram") == []
