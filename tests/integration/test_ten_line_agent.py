"""The host's half of the contract: it serves an agent of ten lines of plain sqlite3 that knows nothing of its code."""

from __future__ import annotations

from pathlib import Path

from tests.support.host import rows, running
from tests.support.script import script

WORDS = """
import os, sqlite3, time

ASKED = "SELECT id, generation, content FROM messages_in ORDER BY seq"
ACK = "INSERT OR IGNORE INTO processing_ack (message_id, status, status_changed) VALUES (?, 'completed', ?)"
REPLY = '''INSERT INTO messages_out (id, in_reply_to, generation, timestamp, kind, content)
           VALUES ('msg_' || lower(hex(randomblob(8))), ?, ?, ?, 'chat', ?)'''
"""
TEN_LINES = """\
folder, now = os.environ["DUMBWAITER_SESSION"], time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
outbound = sqlite3.connect(f"{folder}/out/outbound.db", isolation_level=None)
inbound = sqlite3.connect(f"file:{folder}/inbound.db?mode=ro", uri=True)
while not time.sleep(0.02):
    open(f"{folder}/out/.heartbeat", "w").close()
    for message, generation, content in inbound.execute(ASKED).fetchall():
        outbound.execute("BEGIN IMMEDIATE")
        if outbound.execute(ACK, (message, now)).rowcount:
            outbound.execute(REPLY, (message, generation, now, content.replace("ping", "pong")))
        outbound.execute("COMMIT")
"""


async def test_the_host_serves_an_agent_of_ten_lines(tmp_path: Path) -> None:
    assert len(TEN_LINES.splitlines()) == 10
    async with running(tmp_path, command=script(tmp_path, WORDS + TEN_LINES, bare=True)) as host:
        for number in range(3):
            await host.say(f"ping {number}")
        await host.channel.wait_for(3)
        await host.settled()
        assert host.texts() == [f"pong {number}" for number in range(3)]
        layout = await host.session()
        asked = rows(layout.inbound, "SELECT id, status FROM messages_in ORDER BY seq")
        assert [row["status"] for row in asked] == ["completed"] * 3
        assert [message.in_reply_to for message in host.channel.sent] == [row["id"] for row in asked]
        told = rows(layout.inbound, "SELECT message_out_id AS id FROM delivered WHERE status = 'delivered'")
        written = rows(layout.outbound, "SELECT id FROM messages_out")
        assert {row["id"] for row in told} == {row["id"] for row in written}


async def test_the_ten_line_agent_is_started_again_and_answers_nothing_twice(tmp_path: Path) -> None:
    command = script(tmp_path, WORDS + TEN_LINES, bare=True)
    async with running(tmp_path, command=command) as host:
        assert await host.ask("ping") == "pong"
    async with running(tmp_path, command=command) as host:
        assert await host.ask("ping again") == "pong again"
        await host.settled()
        assert host.texts() == ["pong again"]
