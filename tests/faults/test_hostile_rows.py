"""Rows no honest agent writes: refused one by one and recorded, and nobody waits for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.chats import add_chats, ask_in, hears, refusals, said, session_of, texts_to
from tests.support.host import running
from tests.support.script import script
from tests.support.wait import until

PROMPT = 30.0  # seconds; what is in the way takes for ever, and an answer a few hundredths

# The columns of one bad row, and why it is refused.
REFUSED = {
    "an id that is a path": ("id='../../../escape'", "id is not a message id"),
    "an id of another kind": ("id=new('ses')", "id is not a message id"),
    "an id with a line end": ("id=new('msg') + '\\n'", "id is not a message id"),
    "an id that is a blob": ("id=b'msg_0123456789abcdef'", "id is not a message id"),
    "an unknown kind": ("kind='evil'", "kind is unknown"),
    "a generation that is text": ("generation='many'", "generation is not a number"),
    "a generation that is a fraction": ("generation=1.5", "generation is not a number"),
    "broken JSON": ("content='{not json'", "not a JSON object"),
    "JSON that is no object": ("content='[1, 2]'", "not a JSON object"),
    "JSON nested without end": ("content='[' * 100_000", "not a JSON object"),
    "a number without end": ("content='{\"text\": \"x\", \"n\": ' + '9' * 5000 + '}'", "not a JSON object"),
    "content that is a blob": ("content=b'\\xff\\xfe'", "content is not text"),
    "content that is a number": ("content=7", "not a JSON object"),
    "text that is no text": ("content='{\"text\": [1]}'", "text is not text"),
    "half a character": ('content=\'{"text": "\\\\ud800"}\'', "half characters"),
    "text longer than allowed": ("content=json.dumps({'text': 'x' * 200_000})", "more than 100000 characters"),
    "files that are no list": ('content=\'{"files": "secret"}\'', "not a list of file names"),
    "a time that is none": ("deliver_after='tomorrow'", "deliver_after is not a time"),
    "a message of another session": ("in_reply_to='msg_0123456789abcdef'", "not of this session"),
    "a reference that is a number": ("in_reply_to=7", "not of this session"),
    "a destination it does not have": ("destination='elsewhere'", "not one of its destinations"),
    "a destination that is a blob": ("destination=b'x'", "destination is not an identifier"),
}


async def test_each_bad_row_is_refused_for_its_reason_and_the_rows_around_it_are_sent(tmp_path: Path) -> None:
    bad = ",\n    ".join(f"row(message, 'bad', **dict({columns}))" for columns, _ in REFUSED.values())
    lines = f"""
def answer(message, text):
    write(row(message, "first"),
    {bad},
    row(message, "last"), ack(message))
"""
    async with running(tmp_path, command=script(tmp_path, lines)) as host:
        asked = (await host.say("go")).accepted[0]
        assert await host.outcome(asked.message_id) == "completed"
        await hears(host, "last")
        await host.settled()
        assert said(host) == ["first", "last"]
        found = await host.central("SELECT what, reason FROM refusals ORDER BY position")
        assert len(found) == len(REFUSED)
        by_row = {row["what"]: row["reason"] for row in found}
        for seq, (name, (_, reason)) in enumerate(REFUSED.items(), start=2):
            assert reason in by_row[f"out-{seq}"], name
        assert len((await host.do("session.show", session=asked.session_id))["refusals"]) == 20


async def test_what_scripted_calls_bad_rows_is_refused_and_its_reply_is_sent(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.say("bad-row")
        await hears(host, "wrote 10 bad rows")
        await host.settled()
        assert said(host) == ["wrote 10 bad rows"]
        assert len(await refusals(host, await session_of(host, "one"))) == 10
        await host.say("hello")
        assert await hears(host, "scripted: hello")


@pytest.mark.parametrize("generation", ["0", "2", "-1", "2**62"])
async def test_output_of_a_generation_that_is_not_the_sessions_is_kept_and_not_sent(
    tmp_path: Path, generation: str
) -> None:
    lines = f"""
def answer(message, text):
    write(row(message, "of another time", generation={generation}))
    reply(message, "ok: " + text)
"""
    async with running(tmp_path, command=script(tmp_path, lines)) as host:
        assert await host.ask("hello") == "ok: hello"
        await host.settled()
        assert host.texts() == ["ok: hello"]
        kept = await host.central("SELECT content FROM deliveries WHERE status = 'suppressed'")
        assert kept == [{"content": '{"text":"of another time"}'}]


async def test_acknowledgements_and_turns_of_nonsense_harm_nobody(tmp_path: Path) -> None:
    lines = """
TURN = ("INSERT INTO turns (id, status, started_at, input_tokens, cost_usd, provider_session_id) "
        "VALUES (?, ?, ?, ?, ?, ?)")

def answer(message, text):
    write(
        ("INSERT INTO processing_ack VALUES (?, 'completed', NULL, NULL, '')", ("msg_0123456789abcdef",)),
        ("INSERT INTO processing_ack VALUES (?, ?, NULL, NULL, '')", (b"blob", 7)),
        ("INSERT INTO processing_ack VALUES (?, ?, ?, ?, ?)", (message, "dancing", 7, b"x", 0.5)),
        (TURN, ("../../x", "completed", now(), 1, 1.0, "")),
        (TURN, (new("trn"), "dancing", now(), 1, 1.0, "")),
        (TURN, (new("trn"), "completed", "yesterday", 1, 1.0, "")),
        (TURN, (new("trn"), "completed", now(), -1, 1.0, "")),
        (TURN, (new("trn"), "completed", now(), "many", 1.0, "")),
        (TURN, (new("trn"), "completed", now(), 1, 9e999, "")),
        (TURN, (new("trn"), "completed", now(), 1, 1.0, b"blob")),
        (TURN, (new("trn"), "completed", now(), 1, 1.0, "x" * 1000)),
        ("INSERT OR REPLACE INTO agent_state VALUES (1, 'dancing', 7, 'never', 0.5, 'x', 7)", ()),
    )
    reply(message, "ok: " + text)
"""
    async with running(tmp_path, command=script(tmp_path, lines)) as host:
        await add_chats(host, "two")
        await host.say("hello")
        await hears(host, "ok: hello")
        await host.settled()
        assert await host.central("SELECT id FROM turns") == []
        assert await host.central("SELECT count(*) AS n FROM refusals WHERE what = 'a turn'") == [{"n": 8}]
        assert await host.central("SELECT status FROM ingest") == [{"status": "completed"}]
        (session,) = await host.central("SELECT provider_session_id FROM sessions")
        assert session == {"provider_session_id": None}


async def test_the_acknowledgement_of_another_sessions_message_is_not_taken(tmp_path: Path) -> None:
    lines = """
import glob

def answer(message, text):
    if text == "leave me open":
        hold()
    others = [path for path in glob.glob(os.path.dirname(SESSION) + "/*/inbound.db") if SESSION not in path]
    with closing(sqlite3.connect(f"file:{others[0]}?mode=ro", uri=True)) as c:
        for other in c.execute("SELECT id FROM messages_in").fetchall():
            write(ack(other[0]), ack(other[0], "failed", "haha"), row(other[0], "in its name"))
    reply(message, "ok: " + text)
"""
    async with running(tmp_path, command=script(tmp_path, lines)) as host:
        await add_chats(host, "two")
        victim = (await host.say("leave me open", chat="two")).accepted[0]
        await host.say("forge it")
        await hears(host, "ok: forge it")
        (row,) = await host.central("SELECT status FROM ingest WHERE message_id = ?", victim.message_id)
        assert row == {"status": "pending"}
        assert texts_to(host, "two") == []
        assert "not of this session" in str(await refusals(host, await session_of(host, "one")))


async def test_a_huge_seq_takes_only_its_own_session_down_and_its_people_are_told(tmp_path: Path) -> None:
    lines = """
def answer(message, text):
    if text == "jump":
        return write(row(message, "jumped", seq=2**63 - 1), ack(message))
    reply(message, "ok: " + text)
"""
    limits = {"max_retries": 0, "silent_seconds": 0.7, "poll_seconds": 0.1}
    async with running(tmp_path, command=script(tmp_path, lines), **limits) as host:
        await add_chats(host, "two")
        await host.say("jump")
        assert await ask_in(host, "two", "hello") == "ok: hello"
        told = "This message could not be answered: what the agent wrote cannot be read and was put aside"
        await until(lambda: told in host.texts(), "the person was told")
        assert await ask_in(host, "one", "again") == "ok: again"


@pytest.mark.parametrize("count", [2_500, pytest.param(10_000, marks=pytest.mark.full)])
async def test_thousands_of_rows_at_once_are_taken_in_portions_while_others_are_served(
    tmp_path: Path, count: int
) -> None:
    lines = """
def answer(message, text):
    if text != "flood":
        return reply(message, "ok: " + text)
    statement, values = row(message, "bad", kind="evil")
    at = statement[statement.index("(") + 1:].split(")")[0].split(", ").index("id")
    rows = [(statement, values[:at] + [f"msg_{number:016x}"] + values[at + 1:]) for number in range(COUNT)]
    write(*rows, row(message, "after the flood"), ack(message))
"""
    async with running(tmp_path, command=script(tmp_path, lines.replace("COUNT", str(count)))) as host:
        await add_chats(host, "two")
        assert await ask_in(host, "two", "hello") == "ok: hello"
        flood = (await host.say("flood")).accepted[0]
        served, cursors = 0, set()
        while "after the flood" not in said(host):
            assert await ask_in(host, "two", f"number {served}", PROMPT) == f"ok: number {served}"
            (session,) = await host.central("SELECT out_cursor FROM sessions WHERE id = ?", flood.session_id)
            cursors.add(session["out_cursor"])
            served += 1
        assert "bad" not in said(host)
        assert served > 1
        assert any(0 < cursor < count for cursor in cursors)
        assert await host.outcome(flood.message_id) == "completed"
        (noted,) = await host.central("SELECT count(*) AS n FROM refusals")
        assert 0 < noted["n"] <= 100


async def test_a_row_that_the_host_fails_over_is_undone_and_holds_up_none_behind_it(tmp_path: Path) -> None:
    lines = """
def answer(message, text):
    write(row(message, "first"), row(message, "poison"), row(message, "last"), ack(message))
"""
    broken = """
CREATE TRIGGER broken BEFORE INSERT ON deliveries WHEN NEW.content LIKE '%poison%' BEGIN SELECT raise(ABORT, 'no'); END
"""
    async with running(tmp_path, command=script(tmp_path, lines)) as host:
        await host.services.central.write(lambda c: c.execute(broken))
        asked = (await host.say("go")).accepted[0]
        assert await host.outcome(asked.message_id) == "completed"
        await hears(host, "last")
        await host.settled()
        assert said(host) == ["first", "last"]
        assert "the host failed over it: IntegrityError" in str(await refusals(host, asked.session_id))
