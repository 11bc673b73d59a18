"""FAILURES 4, 5, 16: an `outbound.db` that is damaged, hostile, half-written, or only looks damaged for a while."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.chats import (
    add_chats,
    agent_pid,
    answers,
    ask_in,
    folder_of,
    kill_agent,
    refusals,
    session_of,
    texts_to,
)
from tests.support.host import rows, running
from tests.support.script import script
from tests.support.short import in_short
from tests.support.wait import until

PROMPT = 30.0  # seconds; what is in the way takes for ever, and an answer a few hundredths
IMPATIENT = {"max_retries": 0, "silent_seconds": 2.0, "poll_seconds": 0.1}

# What an agent does to its own file. `victim` is the other session's file, `central` the host's.
DAMAGE = {
    "truncated": "os.truncate(DB, os.path.getsize(DB) // 2 + 7)",
    "of zero length": "os.truncate(DB, 0)",
    "garbage": "put(os.urandom(50_000))",
    "garbage behind a good header": "data = open(DB, 'rb').read(); put(data[:100] + os.urandom(len(data)))",
    "a database with other tables": "put(b''); write(('CREATE TABLE messages_out (a)', ()))",
    "views in place of tables": """
        write(("ALTER TABLE messages_out RENAME TO real", ()),
              ("CREATE VIEW messages_out AS SELECT * FROM real, (WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL "
               "SELECT x + 1 FROM n) SELECT x FROM n)", ()))
    """,
    "of a version to come": "write(('PRAGMA user_version = 99', ()))",
    "locked for ever": """
        lock = sqlite3.connect(DB, isolation_level=None)
        lock.execute("PRAGMA locking_mode = EXCLUSIVE")
        lock.execute("INSERT INTO session_state VALUES ('a change', '', '')")
    """,
    "in WAL mode": """
        wal = sqlite3.connect(DB, isolation_level=None)
        wal.execute("PRAGMA journal_mode = WAL")
        wal.execute("INSERT INTO session_state VALUES ('a change', '', '')")
    """,
    "missing": "os.unlink(DB)",
    "a link to another session's file": "os.unlink(DB); os.symlink(victim, DB)",
    "a link to central.db": "os.unlink(DB); os.symlink(central, DB)",
    "central.db under a second name": "os.unlink(DB); os.link(central, DB)",
    "a link to itself": "os.unlink(DB); os.symlink(DB, DB)",
    "a pipe": "os.unlink(DB); os.mkfifo(DB)",
    "a folder": "os.unlink(DB); os.mkdir(DB); open(DB + '/x', 'w').close()",
}

AGENT = """
import glob
from pathlib import Path

def put(data):
    with open(DB, "wb") as file:
        file.write(data)

def answer(message, text):
    if text != "do it":
        return reply(message, "ok: " + text)
    central = str(Path(SESSION).parents[2] / "central.db")
    victim = next((each for each in glob.glob(os.path.dirname(SESSION) + "/*/out/outbound.db") if each != DB), None)
{damage}
    Path(OUT, "done").touch()
    hold()
"""


@pytest.mark.parametrize(
    "damage", in_short(DAMAGE, "of zero length", "garbage", "a link to another session's file", "a pipe")
)
async def test_failure_4_a_damaged_outbound_db_is_put_aside_and_delays_nobody_else(tmp_path: Path, damage: str) -> None:
    lines = AGENT.replace("{damage}", _indented(DAMAGE[damage]))
    async with running(tmp_path, command=script(tmp_path, lines), **IMPATIENT) as host:
        await add_chats(host, "two")
        assert await ask_in(host, "two", "before") == "ok: before"
        assert await ask_in(host, "one", "before") == "ok: before"
        broken = await folder_of(host, "one")
        asked = (await host.say("do it", chat="one")).accepted[0]
        await until((broken.out / "done").exists, "the damage is done")
        for number in range(10):
            assert await ask_in(host, "two", f"number {number}", PROMPT) == f"ok: number {number}"
        assert await host.outcome(asked.message_id) == "failed"
        told = (await answers(host, "one", 2))[1]
        assert told.startswith("This message could not be answered: ")
        assert await ask_in(host, "one", "after") == "ok: after"
        if damage != "locked for ever":  # the lock ends with its owner, and the file was never damaged
            assert "outbound.db" in await refusals(host, asked.session_id)
        if damage not in ("missing", "locked for ever"):
            assert list(broken.out.glob("outbound.db.unreadable-*"))
        await host.settled()
        assert texts_to(host, "two") == ["ok: before", *(f"ok: number {number}" for number in range(10))]


COMPUTED = """
write(("DROP TABLE messages_out", ()),
      ("CREATE TABLE messages_out (seq INTEGER PRIMARY KEY, id TEXT, turn_id TEXT, in_reply_to TEXT, "
       "generation INTEGER, timestamp TEXT, deliver_after TEXT, kind TEXT, destination TEXT, channel_type TEXT, "
       "platform_id TEXT, thread_id TEXT, content TEXT GENERATED ALWAYS AS "
       "('{\\"text\\": \\"' || (hex(zeroblob(20)) LIKE ('%' || hex(zeroblob(10)) || 'b')) || '\\"}'))", ()),
      ("INSERT INTO messages_out (id, generation, timestamp, kind) VALUES (?, 1, ?, 'chat')", (new("msg"), now())),
      ack(message))
"""


async def test_failure_4_a_table_with_columns_that_the_reader_would_compute_is_not_read(tmp_path: Path) -> None:
    lines = AGENT.replace("{damage}", _indented(COMPUTED))
    async with running(tmp_path, command=script(tmp_path, lines), **IMPATIENT) as host:
        asked = (await host.say("do it")).accepted[0]
        assert await host.outcome(asked.message_id) == "failed"
        assert "outbound.db" in await refusals(host, asked.session_id)
        await host.settled()
        assert "".join(host.texts()).startswith("This message could not be answered: ")


BIG = {
    "messages_out": "write(row(message, 'x' * 5_000_000), ack(message))",
    "an id": "write(row(message, 'x', id='msg_' + 'a' * 5_000_000), ack(message))",
    "a turn": """
        write(("INSERT INTO turns (id, status, started_at, provider) VALUES (?, 'completed', ?, ?)",
               (new("trn"), now(), "x" * 5_000_000)), ack(message))
    """,
    "agent_state": """
        write(("INSERT OR REPLACE INTO agent_state VALUES (1, 'idle', ?, NULL, NULL, 1, ?)",
               ("x" * 5_000_000, now())), ack(message))
    """,
}


@pytest.mark.parametrize("where", BIG)
async def test_failure_4_a_value_of_5_megabytes_is_refused_and_the_session_goes_on(tmp_path: Path, where: str) -> None:
    lines = f"""
def answer(message, text):
    if text != "do it":
        return reply(message, "ok: " + text)
{_indented(BIG[where])}
"""
    async with running(tmp_path, command=script(tmp_path, lines)) as host:
        await add_chats(host, "two")
        asked = (await host.say("do it")).accepted[0]
        assert await ask_in(host, "two", "hello", PROMPT) == "ok: hello"
        assert await host.outcome(asked.message_id) == "completed"
        assert "larger than allowed" in str(await refusals(host, asked.session_id))
        assert await ask_in(host, "one", "hello") == "ok: hello"
        assert texts_to(host, "one") == ["ok: hello"]


GONE = """
def answer(message, text):
    if text != "do it":
        return reply(message, "ok: " + text)
    os.rename(OUT, OUT + ".gone")
    time.sleep(60)
"""


async def test_failure_4_a_session_whose_out_folder_is_gone_is_told_and_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path, command=script(tmp_path, GONE), **IMPATIENT) as host:
        await add_chats(host, "two")
        asked = (await host.say("do it", chat="one")).accepted[0]
        layout = await host.session(asked.session_id)
        await until((layout.folder / "out.gone").exists, "the folder is gone")
        assert await ask_in(host, "two", "hello", PROMPT) == "ok: hello"
        assert await host.outcome(asked.message_id) == "failed"
        assert (await answers(host, "one"))[0].startswith("This message could not be answered: ")
        assert await ask_in(host, "one", "after") == "ok: after"


async def test_failure_4_a_session_whose_out_folder_went_while_no_host_ran_is_told_by_the_next(tmp_path: Path) -> None:
    async with running(tmp_path, command=script(tmp_path, GONE), stop_agents=False, max_retries=0) as host:
        asked = (await host.say("do it")).accepted[0]
        layout = await host.session()
        await until((layout.folder / "out.gone").exists, "the folder is gone")
    async with running(tmp_path, command=script(tmp_path, GONE), **IMPATIENT) as host:
        assert await host.outcome(asked.message_id) == "failed"
        await answers(host, "one")
        assert await host.ask("hello") == "ok: hello"


async def test_failure_4_a_session_that_cannot_be_settled_does_not_keep_the_host_from_starting(tmp_path: Path) -> None:
    command = script(tmp_path)
    async with running(tmp_path, command=command, stop_agents=False) as host:
        await add_chats(host, "two")
        await ask_in(host, "one", "hello")
        layout = await host.session()
        kill_agent(host, await session_of(host, "one"))
    shutil.rmtree(tmp_path / "run")  # as after a `docker rm`: nobody knows the agent any more
    layout.folder.rename(tmp_path / "elsewhere")
    layout.folder.write_text("no folder")
    async with running(tmp_path, command=command) as host:
        assert await ask_in(host, "two", "hello", PROMPT) == "ok: hello"


async def test_failure_5_after_a_kill_in_mid_commit_nothing_is_lost_and_the_session_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path, max_retries=1) as host:
        await host.ask("before")
        layout = await host.session()
        kept = rows(layout.outbound, "SELECT id FROM messages_out ORDER BY seq")
        fatal = (await host.say("kill-mid-commit")).accepted[0]
        after = (await host.say("after")).accepted[0]
        assert await host.outcome(fatal.message_id) == "failed"
        assert await host.outcome(after.message_id) == "completed"
        await host.settled()
        assert [text.partition(":")[0] for text in host.texts()] == [
            "scripted",
            "This message could not be answered",
            "scripted",
        ]
        assert host.texts()[2] == "scripted: after"
        assert rows(layout.outbound, "SELECT id FROM messages_out ORDER BY seq")[:1] == kept
        assert rows(layout.outbound, "SELECT count(*) AS n FROM session_state WHERE key LIKE 'never%'") == [{"n": 0}]
        assert [path.name for path in layout.out.glob("outbound.db*")] == ["outbound.db"]


async def test_failure_5_the_host_rolls_a_hot_journal_back_when_no_agent_follows(tmp_path: Path) -> None:
    lines = """
def answer(message, text):
    reply(message, "ok: " + text)
    c = sqlite3.connect(DB, isolation_level=None)
    c.execute("PRAGMA cache_size = 1")
    c.execute("BEGIN IMMEDIATE")
    c.executemany("INSERT INTO session_state VALUES (?, ?, '')", [(str(n), "x" * 4000) for n in range(200)])
    os.kill(os.getpid(), signal.SIGKILL)
"""
    async with running(tmp_path, command=script(tmp_path, lines), poll_seconds=0.1) as host:
        asked = (await host.say("hello")).accepted[0]
        assert await host.outcome(asked.message_id) == "completed"
        await host.channel.wait_for(1)
        assert host.texts() == ["ok: hello"]
        layout = await host.session()
        await until(lambda: not host.services.supervisor.agents, "the host noticed the death")
        await until(lambda: [path.name for path in layout.out.glob("outbound.db*")] == ["outbound.db"], "no journal")
        assert rows(layout.outbound, "SELECT count(*) AS n FROM session_state") == [{"n": 0}]


async def test_failure_16_a_file_that_reads_malformed_for_a_while_loses_nothing(tmp_path: Path) -> None:
    lines = """
import shutil

def answer(message, text):
    if text != "look malformed":
        return reply(message, "ok: " + text)
    shutil.copy(DB, OUT + "/aside")
    write(row(message, "said meanwhile"), ack(message), path=OUT + "/aside")
    shutil.copy(DB, OUT + "/garbage")
    with open(OUT + "/garbage", "r+b") as file:
        file.write(b"not a database " * 2000)
    os.rename(OUT + "/garbage", DB)
    while not os.path.exists(WORKSPACE + "/mend"):
        beat()
        time.sleep(0.02)
    os.rename(OUT + "/aside", DB)
"""
    async with running(tmp_path, command=script(tmp_path, lines), poll_seconds=0.05) as host:
        await add_chats(host, "two")
        assert await ask_in(host, "one", "before") == "ok: before"
        session_id = await session_of(host, "one")
        pid = agent_pid(host, session_id)
        await host.say("look malformed", chat="one")
        agent = host.services.supervisor.agents[session_id]
        await until(lambda: agent.read_failures >= 10, "ten reads in a row found it malformed")
        await host.say("said while it was malformed", chat="one")
        assert await ask_in(host, "two", "hello", PROMPT) == "ok: hello"
        workspace = next((tmp_path / "agents").iterdir())
        await asyncio.to_thread((workspace / "mend").touch)
        expected = ["ok: before", "said meanwhile", "ok: said while it was malformed"]
        assert await answers(host, "one", 3) == expected
        assert agent_pid(host, session_id) == pid
        assert await refusals(host, session_id) == {}


def _indented(code: str) -> str:
    return "\n".join("    " + line for line in dedent(code).strip().splitlines())
