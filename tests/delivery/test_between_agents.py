"""What an agent writes to another agent reaches its conversation, and the answer the conversation that asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from host.agents.limits import MOST_HOPS_BETWEEN, MOST_MESSAGES_PER_HOUR
from host.central import rate_limits
from host.central.rate_limits import Act
from shared_schema.clock import to_text
from shared_schema.errors import Conflict, InvalidValue, NotFound
from tests.support.failpoints import Point, arm, disarm, mortal
from tests.support.host import AGENT, Host, rows, running
from tests.support.transaction import at
from tests.support.wait import until, until_sync

CHANNEL = "host.agents.channel"
HELPER_WORKS = """
SELECT 1 FROM turns t JOIN sessions s ON s.id = t.session_id WHERE t.status = 'running' AND s.kind = 'agent'
"""


@asynccontextmanager
async def two_agents(data: Path, **settings: Any) -> AsyncIterator[Host]:
    """A host whose `assistant` may write to `helper`, and `helper` to `assistant` as `boss`."""
    async with running(data, **settings) as host:
        await host.do("agent_group.add", name="helper", provider="scripted")
        await host.do("destination.add", agent_group=AGENT, name="helper", messaging_group="agent:helper")
        await host.do("destination.add", agent_group="helper", name="boss", messaging_group=f"agent:{AGENT}")
        yield host


async def of_helper(host: Host) -> list[dict[str, Any]]:
    return [each for each in await host.do("session.list") if each["agent_group"] == "helper"]


async def test_the_answer_of_the_other_agent_reaches_the_chat_of_the_conversation_that_asked(tmp_path: Path) -> None:
    async with two_agents(tmp_path) as host:
        await host.do("messaging_group.add", address="memory:two", is_group=True, unknown_sender="public")
        await host.do("wiring.add", messaging_group="memory:two", agent_group=AGENT)
        for chat, word in (("one", "walrus"), ("two", "otter")):
            await host.say(f"to helper reply 1 {word}", chat=chat)
        await until(lambda: len(host.channel.sent) == 2, "both are answered")
        await host.settled()
        said = {message.address.platform_id: message.text for message in host.channel.sent}
        assert said == {"one": "scripted: walrus 1", "two": "scripted: otter 1"}
        sessions = await of_helper(host)
        assert [(each["kind"], each["messaging_group"]) for each in sessions] == [("agent", None)] * 2
        told = await host.do("session.transcript", session=sessions[0]["id"])
        assert [entry["direction"] for entry in told] == ["in", "out"]
        context = rows(
            Path(sessions[0]["path"]) / "inbound.db", "SELECT value FROM session_context WHERE key = 'context'"
        )
        assert f'You talk with another agent "{AGENT}"' in context[0]["value"]


async def test_a_second_question_finds_the_same_conversation_of_the_other_agent(tmp_path: Path) -> None:
    async with two_agents(tmp_path) as host:
        assert await host.ask("to helper good morning") == "scripted: scripted: good morning"
        assert await host.ask("to helper recall") == "scripted: 2 steps: good morning"
        await host.settled()
        assert len(await of_helper(host)) == 1


async def test_what_is_written_to_the_agent_that_asked_goes_to_the_conversation_that_asked(tmp_path: Path) -> None:
    async with two_agents(tmp_path) as host:
        await host.say("to helper to boss back to you")
        await until(lambda: "scripted: back to you" in host.texts(), "it came back")
        await host.settled()
        assert len(await host.do("session.list")) == 2


async def test_files_are_copied_into_the_conversation_of_the_other_agent(tmp_path: Path) -> None:
    async with two_agents(tmp_path) as host:
        await host.say("to helper attach report.txt 7")
        await until(lambda: "scripted: attached report.txt" in host.texts(), "the answer came")
        await host.settled()
        (mine,) = [each for each in await host.do("session.list") if each["agent_group"] == AGENT]
        (kept,) = Path(mine["path"]).glob("inbox/*/report.txt")
        assert kept.read_bytes() == b"x" * 7
        assert not kept.is_symlink()
        (theirs,) = await of_helper(host)
        (sent,) = Path(theirs["path"]).glob("sent/*/report.txt")
        assert kept.stat().st_ino != sent.stat().st_ino
        assert list((tmp_path / "spool").iterdir()) == []


async def test_a_turn_that_fails_is_told_to_the_agent_that_asked(tmp_path: Path) -> None:
    async with two_agents(tmp_path) as host:
        answer = await host.ask("to helper fail the tea is cold")
        assert answer == "scripted: This message could not be answered: the tea is cold"


async def test_agents_that_write_to_each_other_for_ever_come_to_an_end_and_people_are_told(tmp_path: Path) -> None:
    async with two_agents(tmp_path) as host:
        await host.say(" ".join(["to helper", "to boss"] * MOST_HOPS_BETWEEN) + " end")
        told = f"have gone back and forth {MOST_HOPS_BETWEEN} times since a person wrote"
        await until(lambda: [text for text in host.texts() if told in text], "a person is told")
        await host.settled()
        handed = await host.central("SELECT hops FROM ingest WHERE kind = 'agent' AND trigger = 1 ORDER BY position")
        assert [row["hops"] for row in handed] == list(range(1, MOST_HOPS_BETWEEN + 1))
        (failed,) = await host.central("SELECT error FROM deliveries WHERE status = 'failed'")
        assert told in failed["error"]
        struck = (await host.do("status"))["limits"]
        assert [each["what"] for each in struck] == [Act.AGENT_LIMITS]
        await host.say("to helper reply 1 again")
        await until(lambda: "scripted: again 1" in host.texts(), "a person begins anew")


async def test_an_agent_that_sends_too_much_in_an_hour_is_held_back_and_people_are_told(tmp_path: Path) -> None:
    async with two_agents(tmp_path) as host:
        now = to_text(host.services.clock.now())

        def use(connection: Any) -> None:
            for _ in range(MOST_MESSAGES_PER_HOUR - 1):
                rate_limits.take(at(connection, now), Act.AGENT_MESSAGES, f"{AGENT} to helper")

        await host.services.central.write(use)
        await host.say("to helper reply 1 last\nto helper too much")
        await until(lambda: "scripted: last 1" in host.texts(), "the last one is answered")
        told = f"{AGENT} has sent helper {MOST_MESSAGES_PER_HOUR} messages in this hour"
        await until(lambda: [text for text in host.texts() if told in text], "a person is told")
        await host.settled()
        (mine,) = [each for each in await host.do("session.list") if each["agent_group"] == AGENT]
        failed = rows(Path(mine["path"]) / "inbound.db", "SELECT error FROM delivered WHERE status = 'failed'")
        assert [told in row["error"] for row in failed] == [True]


async def test_an_answer_for_a_conversation_that_is_over_is_not_handed_over(tmp_path: Path) -> None:
    async with two_agents(tmp_path) as host:
        await host.say("to helper think 1.5")
        await until(lambda: host.central(HELPER_WORKS), "the helper works")
        (mine,) = [each for each in await host.do("session.list") if each["agent_group"] == AGENT]
        await host.do("session.new", session=mine["id"])
        await host.settled()
        failed = await host.central("SELECT DISTINCT error FROM deliveries WHERE status = 'failed'")
        assert [row["error"] for row in failed] == ["the conversation that asked is over"]
        assert not [text for text in host.texts() if "thought for" in text]


async def test_only_agents_that_are_there_and_others_can_be_written_to(tmp_path: Path) -> None:
    async with two_agents(tmp_path) as host:
        for name, place, problem in (
            ("me", f"agent:{AGENT}", InvalidValue),
            ("x", "agent:nobody", NotFound),
            ("helper", "agent:helper", Conflict),
            ("helper", "memory:one", Conflict),
        ):
            with pytest.raises(problem):
                await host.do("destination.add", agent_group=AGENT, name=name, messaging_group=place)
        with pytest.raises(InvalidValue):
            await host.do("messaging_group.add", address="agent:helper")
        await host.do("destination.remove", agent_group=AGENT, name="helper")
        assert [each["name"] for each in await host.do("destination.list")] == ["boss"]
        assert "An answer could not be sent: 'helper' is not one of" in await host.ask("to helper hello")


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(
            Point(
                "hand over: files kept, not accepted",
                "host.agents.channel",
                "AgentChannel.deliver",
                "said = AgentMessage(",
            ),
            marks=pytest.mark.full,
        ),
        Point(
            "hand over: accepted, nobody told",
            "host.dispatcher",
            "Dispatcher._hand_on",
            "self._supervisor.accepted(",
            2,
        ),
    ],
    ids=str,
)
def test_a_host_that_dies_while_it_hands_over_loses_and_doubles_nothing(tmp_path: Path, point: Point) -> None:
    with mortal(tmp_path / "data", "host", "run", "--data") as host:
        host.call("agent_group.set", name=AGENT, provider="scripted")
        host.call("agent_group.add", name="helper", provider="scripted")
        host.call("destination.add", agent_group=AGENT, name="helper", messaging_group="agent:helper")
        host.call("messaging_group.add", address="cli:one", is_group=True, unknown_sender="public")
        host.call("wiring.add", messaging_group="cli:one", agent_group=AGENT)
        arm(host.folder, point.plan)
        host.call("message.inject", messaging_group="cli:one", text="to helper attach report.txt 7")
        host.dies(point)
        disarm(host.folder)
        host.start()
        said = "SELECT 1 FROM deliveries WHERE channel_type = 'cli' AND status = 'delivered'"
        until_sync(lambda: host.rows(said), "the answer came", 60)
        handed = host.rows("SELECT status FROM ingest WHERE kind = 'agent' AND trigger = 1")
        until_sync(lambda: not host.rows("SELECT 1 FROM ingest WHERE status = 'pending'"), "nothing is open", 60)
        assert len(handed) == 2
        assert len(host.rows(said)) == 1
        (mine,) = [each for each in host.call("session.list") if each["agent_group"] == AGENT]
        assert [path.read_bytes() for path in Path(mine["path"]).glob("inbox/*/report.txt")] == [b"x" * 7]
