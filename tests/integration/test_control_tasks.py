"""What the host asks of an agent: titles and summaries, which never reach a chat (FAILURES 38)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from host.central import control_tasks, sessions
from shared_schema.rows import ControlTask
from tests.support.chats import hears, refusals
from tests.support.host import Host, rows, running
from tests.support.script import script
from tests.support.transaction import at
from tests.support.wait import until

# An agent that answers errands as the test says: `errand(message, do)`.
ERRANDS = """
def answer(message, text):
    if text is not None:
        reply(message, "ok: " + text)
    else:
        (content,) = inbound(f"SELECT content FROM messages_in WHERE id = '{message}'")[0]
        errand(message, json.loads(content)["do"])

def say(message, text, **columns):
    return row(message, text, kind="system", **columns)
"""


async def ask(host: Host, do: ControlTask) -> str:
    """The host asks the agent of the only session; the id of the errand, once it has its outcome."""
    (listed,) = await host.do("session.list")

    def store(connection: Any) -> str:
        return control_tasks.ask(at(connection, listed["last_active"]), sessions.get(connection, listed["id"]), do)

    message_id = await host.services.central.write(store)
    host.services.supervisor.accepted(listed["id"])
    await host.outcome(message_id)
    return message_id


async def title(host: Host, source: str) -> str:
    """The title of the only session, once it is of that source."""

    async def found() -> str | None:
        (row,) = await host.central("SELECT title, title_source FROM sessions")
        return row["title"] if row["title_source"] == source else None

    return str(await until(found, f"a title from {source}"))


async def test_the_first_words_are_the_title_until_the_agent_has_made_one(tmp_path: Path) -> None:
    async with running(tmp_path, title_seconds=0.3) as host:
        await host.ask("what is a dumbwaiter good for")
        assert await title(host, "first-words") == "what is a dumbwaiter good for"
        assert await title(host, "automatic") == "Title of ann: what is a dumbwaiter"
        await host.settled()
        assert host.texts() == ["scripted: what is a dumbwaiter good for"]
        assert await host.ask("and now?") == "scripted: and now?"
        await host.settled()
        assert len(await host.central("SELECT 1 FROM ingest WHERE kind = 'control'")) == 1
        (session,) = await host.do("session.list")
        assert session["pending"] == 0


async def test_the_agent_is_not_asked_while_somebody_waits_for_it(tmp_path: Path) -> None:
    async with running(tmp_path, title_seconds=0.05) as host:
        await host.ask("hello")
        await host.say("think 0.6")
        await host.channel.wait_for(2)
        await title(host, "automatic")
        order = await host.central("SELECT kind FROM ingest ORDER BY position")
        assert [row["kind"] for row in order] == ["chat", "chat", "control"]


async def test_a_provider_that_makes_no_titles_is_not_asked(tmp_path: Path) -> None:
    async with running(tmp_path, provider="echo", title_seconds=0.0) as host:
        await host.ask("good morning")
        assert await title(host, "first-words") == "good morning"
        await host.ask("once more")
        await host.settled()
        assert await host.central("SELECT 1 FROM ingest WHERE kind = 'control'") == []


async def test_a_title_of_a_person_s_is_not_replaced(tmp_path: Path) -> None:
    async with running(tmp_path, title_seconds=0.2) as host:
        await host.say("hello\nerrand think 0.5")
        (session,) = await host.do("session.list")

        async def is_asked() -> bool:
            return bool(await host.central("SELECT 1 FROM ingest WHERE kind = 'control' AND state = 'written'"))

        await until(is_asked, "the agent is asked")
        assert (await host.do("session.title", session=session["id"], title="Mine"))["title"] == "Mine"
        await host.settled()
        assert await title(host, "manual") == "Mine"
        assert await host.do("session.title", session="Mine") == {
            "session_id": session["id"],
            "title": "Mine",
            "title_source": "manual",
            "cut": False,
        }
        assert (await host.do("session.title", session="Mine", clear=True))["title"] is None


async def test_a_title_that_fails_is_missed_by_nobody(tmp_path: Path) -> None:
    async with running(tmp_path, title_seconds=0.0) as host:
        await host.say("hello\nerrand fail no idea")
        await until(lambda: _failed(host), "the errand failed")
        await host.settled()
        assert await title(host, "first-words") == "hello errand fail no idea"
        assert not any(message.from_host for message in host.channel.sent)


async def _failed(host: Host) -> bool:
    return bool(await host.central("SELECT 1 FROM ingest WHERE kind = 'control' AND status = 'failed'"))


async def test_a_conversation_goes_on_from_the_summary_its_agent_made(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("one")
        await host.ask("two")
        await ask(host, ControlTask.SUMMARIZE)
        child, parent = await host.central("SELECT * FROM sessions ORDER BY created_at DESC, rowid DESC")
        assert (parent["status"], parent["end_reason"]) == ("ended", "compressed")
        assert (child["status"], child["summary"]) == ("active", "Summary of 4 messages")
        assert (parent["title"], child["title"]) == ("one", "one #2")
        await host.say("three")
        await hears(host, "scripted: three")


async def test_a_summary_that_fails_is_told_in_the_chat_once(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.say("hello\nerrand fail the model is gone", thread="t1")
        await host.channel.wait_for(2)
        await ask(host, ControlTask.SUMMARIZE)
        await host.settled()
        told = [message for message in host.channel.sent if message.from_host]
        assert [message.text for message in told] == ["The conversation could not be compressed: the model is gone"]
        assert told[0].address.thread_id == "t1"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("pass", None),
        ("write(say(message, ' \\u200b\\n'))", "there is nothing in the summary"),
        ("write(say(None, 'a summary'))", "it answers nothing that the host has asked for"),
        ("write(say(message, 'a summary', generation=99))", "the conversation was reset or ended before this was said"),
        ("write(row(message, 'a summary'))", "it answers a message that is not of this session"),
    ],
)
async def test_an_answer_that_is_no_summary_compresses_nothing_and_the_chat_is_told(
    tmp_path: Path, answer: str, reason: str | None
) -> None:
    lines = f"{ERRANDS}\ndef errand(message, do):\n    {answer}\n    write(ack(message))\n"
    async with running(tmp_path, command=script(tmp_path, lines)) as host:
        await host.ask("hello")
        await ask(host, ControlTask.SUMMARIZE)
        await host.channel.wait_for(2)
        assert host.texts()[1:] == ["The conversation could not be compressed: the agent wrote no summary"]
        (session,) = await host.do("session.list")
        assert list((await refusals(host, session["id"])).values()) == ([] if reason is None else [reason])


async def test_what_a_hostile_agent_says_of_a_conversation_is_cut_and_cleaned(tmp_path: Path) -> None:
    lines = f"""
{ERRANDS}
def errand(message, do):
    text = "\\u202eevil\\x1b[2J title " + "x" * 5000 if do == "title" else "\\x00\\x1b]0;x\\x07s\\u202e" * 9000
    write(*[say(message, text) for _ in range(3)], ack(message))
"""
    async with running(tmp_path, command=script(tmp_path, lines)) as host:
        await host.ask("hello")
        await ask(host, ControlTask.TITLE)
        made = await title(host, "automatic")
        assert made.startswith("evil[2J title xxx")
        assert len(made) == 100
        await ask(host, ControlTask.SUMMARIZE)
        rows_ = await host.central("SELECT title, summary FROM sessions ORDER BY created_at, rowid")
        assert len(rows_) == 2
        assert len(rows_[1]["summary"]) == 20_000
        assert set(rows_[1]["summary"]) == set("]0;xs")
        assert rows_[1]["title"].endswith("x #2")


async def test_an_agent_cannot_title_or_compress_unasked(tmp_path: Path) -> None:
    lines = """
def answer(message, text):
    write(row(message, "mine", kind="system"), row(None, "mine", kind="system"))
    reply(message, "ok: " + text)
"""
    async with running(tmp_path, command=script(tmp_path, lines)) as host:
        await host.say("hello")
        await host.settled()
        (session,) = await host.do("session.list")
        assert (session["title"], session["status"]) == ("hello", "active")
        assert set((await refusals(host, session["id"])).values()) == {"it answers nothing that the host has asked for"}
        assert "mine" not in host.texts()


async def test_an_errand_is_no_part_of_what_was_said(tmp_path: Path) -> None:
    async with running(tmp_path, title_seconds=0.0) as host:
        await host.ask("hello")
        await title(host, "automatic")
        await host.settled()
        (session,) = await host.do("session.list")
        said = await host.do("session.transcript", session=session["id"])
        assert [entry["text"] for entry in said] == ["hello", "scripted: hello"]
        assert session["preview"] == "hello"
        layout = await host.session()
        (routing,) = rows(layout.inbound, "SELECT channel_type, platform_id FROM session_routing")
        assert routing == {"channel_type": "memory", "platform_id": "one"}
