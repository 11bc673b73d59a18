"""The prompt's side of the host: who answers, what several terminals see of a conversation, how an answer grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from host.operations.registry import stream
from shared_schema.errors import Conflict, NotFound
from tests.support.host import AGENT, Host, rows, running
from tests.support.wait import until

TERMINAL = "cli:terminal"


class Watcher:
    """What a terminal was told so far."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if entry["type"] == kind]

    async def sees(self, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        found = await until(lambda: [entry for entry in self.entries if condition(entry)], f"{what}: {self.entries}")
        return found[0]

    async def sees_text(self, text: str) -> dict[str, Any]:
        return await self.sees(lambda entry: entry["type"] == "message" and entry["text"] == text, text)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with running(tmp_path / "data") as host:
        await host.do("messaging_group.add", address=TERMINAL)
        await host.do("wiring.add", messaging_group=TERMINAL, agent_group=AGENT)
        yield host


@asynccontextmanager
async def looking(host: Host, **where: Any) -> AsyncIterator[Watcher]:
    """A terminal that looks on."""
    watcher = Watcher()

    async def listen() -> None:
        async for entry in stream(host.services, "terminal.follow", where):
            watcher.entries.append(entry)

    task = asyncio.create_task(listen())
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_is_known_who_answers_before_anything_is_said(host: Host) -> None:
    await host.do("agent_group.set", name=AGENT, model="some-model")

    opened = await host.do("terminal.open")

    assert (opened["agent_group"], opened["provider"], opened["model"]) == (AGENT, "scripted", "some-model")
    assert opened["runtime"] == "process"
    assert opened["session_id"] is None
    assert opened["agents"] == [AGENT]


async def test_an_agent_that_is_not_there_is_named(host: Host) -> None:
    with pytest.raises(NotFound, match="no agent group 'nobody'"):
        await host.do("terminal.open", agent_group="nobody")


async def test_an_agent_that_does_not_answer_at_the_terminal_is_refused_with_the_line_that_lets_it(host: Host) -> None:
    await host.do("agent_group.add", name="reviewer")

    with pytest.raises(NotFound) as raised:
        await host.do("terminal.open", agent_group="reviewer")

    assert f"dumbwaiter wire {TERMINAL} reviewer" in str(raised.value)


async def test_one_message_is_refused_with_the_line_that_helps_as_the_prompt_is(host: Host) -> None:
    async def refused(**params: str) -> str:
        with pytest.raises(NotFound) as raised:
            await anext(stream(host.services, "chat", {"text": "hello", **params}))
        return str(raised.value)

    await host.do("agent_group.add", name="reviewer")

    assert "there is no agent group 'revewer', did you mean 'reviewer'" in await refused(agent_group="revewer")
    assert f"dumbwaiter wire {TERMINAL} reviewer" in await refused(agent_group="reviewer")
    await host.do("wiring.remove", messaging_group=TERMINAL, agent_group=AGENT)
    assert await refused() == (f"no agent answers at the terminal: `dumbwaiter wire {TERMINAL} {AGENT}` lets one do so")


async def test_where_several_answer_one_has_to_be_named(host: Host) -> None:
    await host.do("agent_group.add", name="reviewer")
    await host.do("wiring.add", messaging_group=TERMINAL, agent_group="reviewer")

    with pytest.raises(Conflict, match="several agents answer at the terminal: assistant, reviewer"):
        await host.do("terminal.open")


async def test_an_agent_that_waits_to_be_meant_leaves_the_others_conversation_as_it_was(host: Host) -> None:
    await host.do("agent_group.add", name="reviewer")
    await host.do("wiring.add", messaging_group=TERMINAL, agent_group="reviewer", engage="mention")

    assert (await host.do("terminal.open"))["agent_group"] == AGENT
    assert (await host.do("terminal.open", agent_group="reviewer"))["agent_group"] == "reviewer"


async def test_where_nobody_answers_the_line_to_type_is_said(host: Host) -> None:
    await host.do("wiring.remove", messaging_group=TERMINAL, agent_group=AGENT)

    with pytest.raises(NotFound) as raised:
        await host.do("terminal.open")

    assert f"dumbwaiter wire {TERMINAL} {AGENT}" in str(raised.value)


async def test_two_terminals_of_one_conversation_both_see_all_of_it(host: Host) -> None:
    async with looking(host) as one, looking(host, agent_group=AGENT) as two:
        await until(lambda: len(host.services.dispatcher._followers) >= 2, "both look on")
        sent = await host.do("terminal.send", text="hello", platform_message_id="mine")
        for each in (one, two):
            said = await each.sees(lambda entry: entry["type"] == "said", "what was typed")
            assert (said["text"], said["platform_message_id"]) == ("hello", "mine")
            assert (await each.sees_text("scripted: hello"))["agent_group"] == AGENT
            done = await each.sees(lambda entry: entry["type"] == "done", "the outcome")
            assert (done["message_id"], done["status"]) == (sent["message_id"], "completed")
            await each.sees(lambda entry: entry["type"] == "idle", "rest")
            assert each.entries.index(done) > each.entries.index(await each.sees_text("scripted: hello"))
            assert len(each.of("message")) == 1


async def test_what_an_agent_sends_to_the_terminal_is_no_message_that_somebody_typed(host: Host) -> None:
    await host.do("destination.add", agent_group=AGENT, name="desk", messaging_group=TERMINAL)
    async with looking(host) as terminal:
        await until(lambda: host.services.dispatcher._followers, "it looks on")
        await host.say("to desk The kettle is on.")
        await terminal.sees_text("The kettle is on.")
        await host.do("terminal.send", text="thank you")
        await terminal.sees_text("scripted: thank you")
        assert [entry["text"] for entry in terminal.of("said")] == ["thank you"]
        assert len([entry for entry in terminal.of("message") if entry["text"] == "The kettle is on."]) == 1


async def test_a_message_of_the_command_line_gets_its_answer_though_a_terminal_looks_on(host: Host) -> None:
    async with looking(host) as watcher:
        await until(lambda: host.services.dispatcher._followers, "it looks on")

        answers = [entry async for entry in stream(host.services, "chat", {"text": "hello"})]

        assert [entry["text"] for entry in answers if entry["type"] == "message"] == ["scripted: hello"]
        await watcher.sees_text("scripted: hello")


async def test_what_the_command_line_printed_is_read(host: Host) -> None:
    entries = [entry async for entry in stream(host.services, "chat", {"text": "hello"})]

    assert entries[-1]["status"] == "completed"
    await host.settled()
    assert [session["unread"] for session in await host.do("session.list")] == [False]


async def test_what_came_while_nobody_looked_is_told_first_with_its_agent(host: Host) -> None:
    await host.do("terminal.send", text="hello")
    await host.settled()

    async with looking(host) as watcher:
        letter = await watcher.sees_text("scripted: hello")

    assert letter["late"]
    assert letter["agent_group"] == AGENT
    async with looking(host) as again:
        await until(lambda: host.services.dispatcher._followers, "it looks on")
        await host.do("terminal.send", text="more")
        await again.sees_text("scripted: more")
        assert len(again.of("message")) == 1


async def test_an_answer_of_another_agent_that_nobody_looks_at_appears_as_well(host: Host) -> None:
    await host.do("agent_group.add", name="reviewer", provider="scripted")
    await host.do("wiring.add", messaging_group=TERMINAL, agent_group="reviewer")
    async with looking(host, agent_group=AGENT) as watcher:
        await until(lambda: host.services.dispatcher._followers, "it looks on")
        await host.do("terminal.send", text="hello", agent_group="reviewer")
        letter = await watcher.sees_text("scripted: hello")

    assert letter["agent_group"] == "reviewer"
    assert letter["late"]


async def test_an_answer_grows_while_it_is_written_and_the_draft_goes_with_it(host: Host) -> None:
    async with looking(host) as watcher:
        await until(lambda: host.services.dispatcher._followers, "it looks on")
        await host.do("terminal.send", text="write 0.4 one two three four five six seven eight nine ten")
        await watcher.sees_text("one two three four five six seven eight nine ten")
        await watcher.sees(lambda entry: entry["type"] == "idle", "rest")

    drafts = [entry["draft"] for entry in watcher.of("working") if entry["draft"]]
    assert len(drafts) > 1
    assert all("one two three four five six seven eight nine ten".startswith(draft) for draft in drafts)
    assert drafts == sorted(drafts, key=len)
    session = await host.session()
    assert rows(session.outbound, "SELECT * FROM session_state WHERE key = 'draft'") == []


async def test_the_tool_is_shown(host: Host) -> None:
    async with looking(host) as watcher:
        await until(lambda: host.services.dispatcher._followers, "it looks on")
        await host.do("terminal.send", text="tool read_file 1")
        working = await watcher.sees(lambda entry: entry.get("tool") == "read_file", "the tool")

    assert working["elapsed_seconds"] >= 0


async def test_what_was_asked_again_or_handed_in_is_not_said_to_be_typed_and_a_schedule_types_nothing(
    host: Host,
) -> None:
    async with looking(host) as terminal:
        await until(lambda: host.services.dispatcher._followers, "it looks on")
        await host.do("terminal.send", text="hello")
        await terminal.sees_text("scripted: hello")
        await host.do("terminal.send", text="/retry")
        await until(lambda: len(terminal.of("said")) == 3, "it is asked again")
        await host.do(
            "schedule.add", agent_group=AGENT, when="every 2h", prompt="the tea", name="tea", to="cli:terminal"
        )
        await host.do("schedule.run", name="tea")
        await terminal.sees_text("scripted: the tea")
        await host.do("message.inject", messaging_group="cli:terminal", text="from a script")
        await terminal.sees_text("scripted: from a script")

    assert [(entry["text"], entry["how"]) for entry in terminal.of("said")] == [
        ("hello", "typed"),
        ("/retry", "typed"),
        ("hello", "again"),
        ("from a script", "elsewhere"),
    ]


async def test_files_go_with_a_message(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("x")
    async with looking(host) as watcher:
        await until(lambda: host.services.dispatcher._followers, "it looks on")
        await host.do("terminal.send", text="read this", files=[str(file)])
        said = await watcher.sees(lambda entry: entry["type"] == "said", "what was typed")

    assert said["files"] == ["notes.txt"]


async def test_a_message_that_is_sent_again_is_taken_once(host: Host) -> None:
    first = await host.do("terminal.send", text="hello", platform_message_id="same")
    second = await host.do("terminal.send", text="hello", platform_message_id="same")

    assert first["message_id"] == second["message_id"]
