"""Commands in a chat, with a real host and real agents."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest

from host.central import routes, sessions
from host.channels.memory import MemoryChannel
from host.operations import command_answers as answers
from host.operations.commands import Executor
from host.routing.commands import COMMANDS
from host.runtime.fakes import NeverStartsRuntime
from host.sessions import transitions
from shared_schema.errors import FileTrouble
from tests.support.chats import hears, is_working_on, said
from tests.support.host import AGENT, CHAT, Host, running
from tests.support.transaction import at
from tests.support.wait import ENDS_WITHIN, until

LISTS = "; /sessions lists those there are."


async def sessions_of(host: Host) -> list[dict[str, Any]]:
    return list(await host.do("session.list"))


async def present(host: Host, chat: str = CHAT) -> dict[str, Any]:
    """The session a chat goes on in."""
    listed = [
        s for s in await sessions_of(host) if s["messaging_group"] == chat and s["status"] in ("active", "archived")
    ]
    assert len(listed) == 1
    return dict(listed[0])


def commands_begun() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("command msg_")]


async def answer_to(host: Host, text: str, **options: Any) -> str:
    """Somebody writes a command, and what is answered to it and nothing else."""
    receipt = await host.say(text, **options)
    (accepted,) = receipt.accepted

    def found() -> list[str]:
        return [m.text for m in host.channel.sent if m.in_reply_to == accepted.message_id]

    await until(found, f"{text} is answered")
    assert await host.outcome(accepted.message_id) == "completed"
    assert len(found()) == 1
    return found()[0]


async def test_new_begins_another_conversation_and_resume_takes_up_the_last_one(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("the colour is blue")
        old = await present(host)

        assert await answer_to(host, "/new") == "A new conversation begins. /resume takes up the one before."
        fresh = await present(host)
        assert (fresh["parent_id"], fresh["parent_relation"]) == (old["id"], "reset")
        assert (await host.ask("recall")).startswith("0 steps")

        assert " goes on. It was last active on " in await answer_to(host, "/resume")
        assert (await present(host))["id"] == old["id"]
        assert "the colour is blue" in await host.ask("recall")


async def test_what_is_written_right_behind_new_is_of_the_new_conversation(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        old = await present(host)
        async with host.services.supervisor.holding(old["id"]):  # the host is busy with the old one
            new = asyncio.create_task(host.say("/new"))
            behind = asyncio.create_task(host.say("and now this"))
            await until(commands_begun, "it was begun")
            assert not behind.done()
        await new
        receipt = await behind
        assert receipt.accepted[0].session_id == (await present(host))["id"] != old["id"]
        assert await host.outcome(receipt.accepted[0].message_id) == "completed"


async def test_two_who_ask_for_a_new_conversation_at_once_get_one(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")

        said = await asyncio.gather(answer_to(host, "/new"), answer_to(host, "/new", sender="bob"))

        assert sorted(said) == [
            "A new conversation begins. /resume takes up the one before.",
            "A new conversation has begun already.",
        ]
        assert len(await sessions_of(host)) == 2


async def test_a_title_is_shown_and_set_and_a_taken_one_becomes_the_next_of_its_line(tmp_path: Path) -> None:
    async with running(tmp_path, provider="echo") as host:
        assert (await answer_to(host, "/title")).startswith("This conversation has no title yet.")
        assert await answer_to(host, "/title  My \u202e plans\n") == "The title is now “My plans”."
        await answer_to(host, "/new")
        assert await answer_to(host, "/title My plans") == "The title is now “My plans #2”."
        assert await answer_to(host, "/title") == "The title is “My plans #2”."
        assert await answer_to(host, "/title \u200b") == "A title needs at least one character that can be seen."


async def test_sessions_are_listed_and_taken_up_by_number_title_and_id(tmp_path: Path) -> None:
    async with running(tmp_path, provider="echo", timezone="Asia/Tokyo") as host:
        await host.ask("about apples")
        first = await present(host)
        await answer_to(host, "/title Apples")
        await answer_to(host, "/new")
        await host.ask("about pears")
        second = await present(host)
        await answer_to(host, "/new")

        lines = (await answer_to(host, "/sessions")).splitlines()
        assert [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "WHEN", line) for line in lines[:3]] == [
            "1. nothing said yet, WHEN (you are here)",
            "2. “about pears”, WHEN",
            "3. “Apples”, WHEN",
        ]
        for name, meant in (
            ("3", first),
            ("2", second),
            ("Apples", first),
            (second["id"], second),
            (first["id"].removeprefix("ses_")[:12], first),
        ):
            assert "goes on" in await answer_to(host, f"/resume {name}")
            assert (await present(host))["id"] == meant["id"]
        assert await answer_to(host, "/resume Apples") == "That is the conversation you are in."
        assert await answer_to(host, "/resume 9") == f"There is no conversation '9' here{LISTS}"


async def test_nobody_lists_or_takes_up_a_conversation_of_another_chat_or_agent(tmp_path: Path) -> None:
    """FAILURES 39."""
    async with running(tmp_path, provider="echo") as host:
        await host.do("messaging_group.add", address="memory:direct", is_group=False, unknown_sender="public")
        await host.do("wiring.add", messaging_group="memory:direct", agent_group=AGENT)
        await host.ask("my secret", chat="direct")
        await answer_to(host, "/title Secret", chat="direct")
        secret = await present(host, "memory:direct")
        await host.ask("hello")

        assert "Secret" not in await answer_to(host, "/sessions")
        for name in ("Secret", secret["id"], secret["id"][:9], "2"):
            assert await answer_to(host, f"/resume {name}") == f"There is no conversation '{name}' here{LISTS}"
        assert await answer_to(host, "/resume") == "There is no earlier conversation here."
        await answer_to(host, "/title Secret")
        await answer_to(host, "/new")
        assert "goes on" in await answer_to(host, "/resume Secret #2")


async def test_where_everybody_talks_alone_nobody_sees_the_others(tmp_path: Path) -> None:
    async with running(tmp_path, provider="echo") as host:
        await host.do("wiring.add", messaging_group=CHAT, agent_group=AGENT, per_user=True)
        await host.ask("from ann")
        await host.ask("from bob", sender="bob")
        bobs = [s["id"] for s in await sessions_of(host) if s["preview"] == "from bob"]

        assert (await answer_to(host, "/sessions")).count("from") == 1
        assert await answer_to(host, f"/resume {bobs[0]}") == f"There is no conversation '{bobs[0]}' here{LISTS}"


async def test_undo_takes_back_and_retry_asks_again(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        for text in ("one", "two", "three"):
            await host.ask(text)

        assert await answer_to(host, "/undo") == "Taken back: “three”."
        assert await answer_to(host, "/undo 2") == "Taken back: the last 2 exchanges, from “one” on."
        assert await answer_to(host, "/undo") == "There is nothing to take back in this conversation."
        assert (
            await answer_to(host, "/undo all")
            == "Write /undo to take back the last exchange, or /undo 3 for the last three."
        )
        await host.ask("four")
        sent = len(host.texts())
        assert await answer_to(host, "/retry") == "Asked again: “four”."
        await host.channel.wait_for(sent + 2)
        assert host.texts()[-1] == "scripted: four"


async def test_what_others_wait_for_is_named_when_it_is_taken_back_and_asked_again(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        first = (await host.say("think 1")).accepted[0]
        await is_working_on(await host.session(), first.message_id)
        await host.say("and a hotel", sender="bob")

        assert await answer_to(host, "/retry") == "Asked again: 2 messages, from “think 1” on."
        await hears(host, "scripted: and a hotel")
        assert said(host) == ["scripted: hello", "thought for 1 s", "scripted: and a hotel"]

        stalled = (await host.say("stall")).accepted[0]
        await is_working_on(await host.session(), stalled.message_id)
        await host.say("for two", sender="bob")
        assert await answer_to(host, "/undo") == "Taken back: the last 2 exchanges, from “stall” on."
        assert await host.outcome(stalled.message_id) == "cancelled"


async def test_branch_goes_on_in_a_copy(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("the colour is blue")
        old = await present(host)

        assert (await answer_to(host, "/branch")).startswith("You are in a copy")
        copy = await present(host)
        assert (copy["parent_id"], copy["parent_relation"]) == (old["id"], "branched")
        assert "the colour is blue" in await host.ask("recall")


async def test_compress_answers_at_once_and_tells_when_it_is_done(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        assert (await answer_to(host, "/compress")).startswith("Nothing has been said")
        await host.ask("hello")
        old = await present(host)

        assert (await answer_to(host, "/compress")).startswith("The conversation is being summed up.")
        await until(lambda: host.texts()[-1].startswith("The conversation was summed up"), "people are told")
        child = await present(host)
        assert (child["parent_id"], child["parent_relation"]) == (old["id"], "compressed")
        await host.settled()
        assert len([text for text in host.texts() if "was summed up" in text]) == 1


async def test_an_agent_that_cannot_sum_up_is_not_asked_to(tmp_path: Path) -> None:
    async with running(tmp_path, provider="echo") as host:
        await host.ask("hello")
        assert (await answer_to(host, "/compress")).startswith("This agent cannot sum up a conversation.")


@pytest.mark.parametrize("work", ["stall", "think 60", "hang", "cling"])
async def test_stop_ends_a_turn_within_two_seconds(tmp_path: Path, work: str) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        receipt = await host.say(work)
        await host.say("and this")
        session = await host.session()
        await is_working_on(session, receipt.accepted[0].message_id)

        began = time.monotonic()
        said = await answer_to(host, "/stop")
        await until(lambda: not is_at_work(host), "the turn is over")
        assert time.monotonic() - began < ENDS_WITHIN
        assert said == f"Stopped: 2 messages will not be answered, from “{work}” on."
        assert await host.outcome(receipt.accepted[0].message_id) == "cancelled"
        assert await host.ask("still there") == "scripted: still there"
        assert await answer_to(host, "/stop") == "There is nothing to stop."


def is_at_work(host: Host) -> bool:
    return any(agent.busy_since is not None for agent in host.services.supervisor.agents.values())


async def test_status_says_what_runs_while_it_runs(tmp_path: Path) -> None:
    async with running(tmp_path, stop_seconds=0.2) as host:
        await answer_to(host, "/title Plans")
        session = await present(host)
        lines = (await answer_to(host, "/status")).splitlines()
        assert lines == [
            "Nothing runs, and nothing waits.",
            "Agent: assistant (scripted)",
            f"Conversation: “Plans” ({session['id']})",
        ]
        await host.say("tool hammer 30")
        agents = host.services.supervisor.agents
        await until(lambda: [a for a in agents.values() if a.doing == "hammer"], "the tool runs")
        await host.say("and this")
        (working, *_) = (await answer_to(host, "/status")).splitlines()
        assert re.fullmatch(
            r"Working since \d\d:\d\d:\d\d, for \d s, with “hammer”\. 2 messages wait for an answer\.", working
        )


async def test_usage_is_that_of_the_conversation_and_of_the_budget(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("agent_group.set", name=AGENT, budget_tokens=100)
        await host.ask("use 30\ncost 0.25\nreply 1")
        await host.settled()
        await answer_to(host, "/new")
        await host.ask("use 20\nreply 1")
        await host.settled()

        assert (await answer_to(host, "/usage")).splitlines() == [
            "This conversation: 20 tokens in, 20 out, $0.00.",
            "assistant this month: 100 tokens, $0.25.",
            "Left of the budget: 0 of 100 tokens.",
        ]
        assert "used up" in await host.ask("hello")
        assert (await answer_to(host, "/help")).startswith("/new: ")


async def test_an_archived_conversation_takes_commands_and_resume_opens_it(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        session = await present(host)
        await host.do("session.archive", session=session["id"])

        for text in ("/undo", "/retry", "/compress"):
            assert (await answer_to(host, text)).startswith("This conversation is archived.")
        assert "archived" in await answer_to(host, "/status")
        assert "goes on" in await answer_to(host, "/resume")
        assert (await present(host))["status"] == "active"
        await host.do("session.archive", session=session["id"])
        assert await answer_to(host, "/new") == "A new conversation begins. /resume takes up the one before."
        assert (await host.ask("recall")).startswith("0 steps")


async def test_a_command_whose_conversation_was_deleted_meanwhile_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        session = await present(host)
        central = host.services.central
        async with host.services.supervisor.holding(session["id"]):
            undo = asyncio.create_task(answer_to(host, "/undo"))
            await until(commands_begun, "it was begun")
            status = asyncio.create_task(answer_to(host, "/status"))
            await until(lambda: len(commands_begun()) == 2, "the other waits behind it")
            await central.write(
                lambda c: transitions.delete(at(c, "2026-02-28T12:00:00.000Z"), sessions.get(c, session["id"]))
            )
        assert (await undo).startswith("There is no conversation here at the moment.")
        assert (await status).startswith("There is no conversation here at the moment.")
        assert await answer_to(host, "/resume") == "There is no earlier conversation here."


async def test_a_command_whose_conversation_was_removed_for_good_meanwhile_is_cancelled(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        session = await present(host)
        async with host.services.supervisor.holding(session["id"]):
            (undo,) = (await host.say("/undo")).accepted
            await until(commands_begun, "it was begun")
            await host.services.central.write(lambda c: routes.remove_session(c, sessions.get(c, session["id"])))
        assert await host.outcome(undo.message_id) == "cancelled"
        assert (await answer_to(host, "/status")).startswith("Nothing runs")


async def test_commands_wake_no_agent(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        for name in COMMANDS:
            await answer_to(host, f"/{name}")
        await host.settled()
        assert host.services.supervisor.agents == {}
        assert await host.central("SELECT 1 FROM sessions WHERE run_id IS NOT NULL") == []


async def test_commands_are_answered_where_no_agent_can_be_started(tmp_path: Path) -> None:
    async with running(tmp_path, make_runtime=NeverStartsRuntime, engine_seconds=600.0) as host:
        await host.say("hello")
        assert (await answer_to(host, "/status")).startswith("The agent is about to begin.")
        assert await answer_to(host, "/stop") == "Stopped: “hello” will not be answered."
        assert (await answer_to(host, "/new")).startswith("A new conversation begins.")


async def test_a_word_that_is_no_command_reaches_the_agent(tmp_path: Path) -> None:
    """FAILURES 27."""
    async with running(tmp_path) as host:
        assert await host.ask("/clearance") == "scripted: /clearance"
        assert await host.ask("/newer") == "scripted: /newer"
        assert len(await sessions_of(host)) == 1


async def test_in_a_group_where_the_agent_must_be_mentioned_a_command_needs_no_mention(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("wiring.add", messaging_group=CHAT, agent_group=AGENT, engage="mention")
        assert (await host.say("hello")).accepted == ()
        assert (await answer_to(host, "/help")).startswith("/new: ")


async def test_where_several_agents_listen_each_says_who_it_is(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("agent_group.add", name="helper", provider="scripted")
        await host.do("wiring.add", messaging_group=CHAT, agent_group="helper")
        await host.say("/title")
        said = sorted(message.text for message in await host.channel.wait_for(2))
        assert [text.split(" This ")[0] for text in said] == ["[assistant]", "[helper]"]


async def test_what_stands_behind_a_command_that_takes_nothing_is_not_lost_silently(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        said = await answer_to(host, "/new and then this")
        assert said.endswith("/new takes nothing, and your agent was not given it.")


async def test_the_commands_of_a_conversation_are_carried_out_in_their_order(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        session = await host.ask("hello") and await present(host)
        async with host.services.supervisor.holding(session["id"]):
            for text in ("/branch", "/title One", "/new", "/title Two"):
                await host.say(text)
        await host.settled()
        assert [text.split(".")[0] for text in host.texts()[1:]] == [
            "You are in a copy of the conversation now",
            "The title is now “One”",
            "A new conversation has begun already",
            "The title is now “Two”",
        ]


async def test_a_command_that_breaks_fails_with_a_sentence_and_holds_up_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as host:
        await answer_to(host, "/sessions")
        await host.services.central.write(lambda c: c.execute("""UPDATE shown_lists SET sessions = '{"1": 1}'"""))
        (broken,) = (await host.say("/resume 1")).accepted
        assert (await answer_to(host, "/help")).startswith("/new: ")
        assert await host.outcome(broken.message_id) == "failed"
        assert [m.text for m in host.channel.sent if m.in_reply_to == broken.message_id] == [answers.BROKEN]
        assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["a command failed"]


async def test_what_a_host_left_open_the_next_one_carries_out(tmp_path: Path) -> None:
    channel = MemoryChannel()
    async with running(tmp_path, channel=channel) as host:
        await host.ask("hello")
        session = await present(host)
        async with host.services.supervisor.holding(session["id"]):
            await host.say("/branch")
            (task,) = await until(commands_begun, "it was begun")
            task.cancel()
            await asyncio.wait([task])
        assert len(await sessions_of(host)) == 1
    async with running(tmp_path, channel=channel) as host:
        await host.settled()
        assert len(await sessions_of(host)) == 2
        assert [text.split(" in ")[0] for text in host.texts()[1:]] == ["You are"]
        again = Executor(host.services)
        await again.start()
        await again.close()
        assert len(host.texts()) == 2


async def test_a_copy_can_take_back_what_it_has_taken_over(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        for text in ("one", "two", "three"):
            await host.ask(text)
        await host.ask("/branch")
        assert await host.ask("/undo") == "Taken back: “three”."
        assert await host.ask("/undo") == "Taken back: “two”."
        heard = await host.ask("recall")
        assert heard.startswith("2 steps")
        assert "two" not in heard
        assert await host.ask("/undo 3") == "Taken back: the last 2 exchanges, which were all, from “one” on."
        assert "nothing to take back" in await host.ask("/undo")
        sessions = await host.do("session.list")
        before = next(each for each in sessions if each["parent_id"] is None)
        said = [entry["text"] for entry in await host.do("session.transcript", session=before["id"])]
        assert [text for text in said if text in ("one", "two", "three")] == ["one", "two", "three"]


async def test_undo_of_more_than_three_exchanges_asks_first(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        for number in range(5):
            await host.ask(f"number {number}")
        asked = await host.ask("/undo 4")
        assert asked == (
            "That would take back the last 4 exchanges, and nothing was taken back yet. Write /undo 4 yes to do it."
        )
        assert (await host.ask("recall")).startswith("10 steps")
        assert await host.ask("/undo 4 yes") == "Taken back: the last 4 exchanges, from “number 2” on."
        assert (await host.ask("/undo 4 maybe")).startswith("Write /undo")


class Flaky:
    """The ledger, on a disk that cannot be read for a while."""

    def __init__(self, central: Any) -> None:
        self._central = central
        self.broken = 0

    async def read(self, run: Any, *args: Any, **kwargs: Any) -> Any:
        if self.broken:
            self.broken -= 1
            raise FileTrouble("the file cannot be read")
        return await self._central.read(run, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._central, name)


async def test_commands_keep_their_order_while_the_ledger_cannot_be_read(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        flaky = Flaky(host.services.central)
        host.services.central = flaky  # type: ignore[assignment]
        count = len(host.texts())
        flaky.broken = 1
        for number in range(5):
            await host.say(f"/title number {number}")
        await host.channel.wait_for(count + 5)
        assert host.texts()[count:] == [f"The title is now “number {number}”." for number in range(5)]
