"""Content that one part of the host can read and another cannot: it is its own message's failure, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from host.channels.memory import MemoryChannel
from host.channels.protocol import Outgoing
from shared_schema.errors import FileTrouble
from shared_schema.ids import Prefix, new_id
from tests.support.chats import add_chats, hears, said, texts_to
from tests.support.host import CHAT, Host, running
from tests.support.script import script

# Deep enough that a thread of the pool takes it, and a task of the event loop, which is called from deeper, does not.
NESTED = """
def answer(message, text):
    rows = []
    for depth in range(930, 1000):
        for kind in ("question", "card", "edit", "chat"):
            content = '{"text": "deep", "more": ' + "[" * depth + "]" * depth + "}"
            rows.append(row(message, "", kind=kind, content=content))
    write(*rows, row(message, "ok: " + text), ack(message))
"""


async def test_nested_content_holds_up_no_chat_and_hides_no_transcript(tmp_path: Path) -> None:
    async with running(tmp_path, command=script(tmp_path, NESTED)) as host:
        asked = (await host.say("one")).accepted[0]
        await hears(host, "ok: one")
        await host.say("two")
        await hears(host, "ok: two")
        entries = await host.do("session.transcript", session=asked.session_id)
        assert [entry["text"] for entry in entries if entry["direction"] == "in"] == ["one", "two"]
        assert "ok: two" in [entry["text"] for entry in entries]
        assert (await host.do("session.show", session=asked.session_id))["refusals"]


async def _spoil(host: Host, session_id: str, **columns: Any) -> None:
    """A row of the ledger as an older version, or a disk, may have left it."""
    values = {"content": "[" * 400 + "]" * 400, "kind": "chat"} | columns

    def queue(connection: Any) -> None:
        connection.execute(
            """
            INSERT INTO deliveries
                (message_out_id, session_id, kind, channel_type, platform_id, content, created_at, lane)
            SELECT ?, s.id, ?, 'memory', 'one', ?, s.created_at, s.route_id FROM sessions s WHERE s.id = ?
            """,
            (new_id(Prefix.MESSAGE), values["kind"], values["content"], session_id),
        )

    await host.services.central.write(queue)
    host.services.deliverer.kick(("memory", "one"))


async def test_a_row_of_the_ledger_that_cannot_be_read_fails_alone_and_is_told(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        session = (await host.say("hello")).accepted[0].session_id
        await hears(host, "scripted: hello")
        for content in ("[" * 400 + "]" * 400, "no JSON", "7", '{"text": NaN}', '{"files": 7, "text": "odd"}'):
            await _spoil(host, session, content=content)
        await host.say("again")
        await hears(host, "scripted: again")
        await host.settled()
        told = [text for text in host.texts() if text.startswith("A reply could not be delivered here")]
        assert len(told) == 5
        entries = await host.do("session.transcript", session=session)
        assert [entry["text"] for entry in entries if entry["direction"] == "in"] == ["hello", "again"]


class Breaks(MemoryChannel):
    """A channel with a fault of its own, which one text brings out."""

    async def deliver(self, message: Outgoing) -> str | None:
        if "break" in message.text:
            raise KeyError(message.text)
        return await super().deliver(message)


async def test_a_channel_that_fails_over_one_message_sends_the_others(tmp_path: Path) -> None:
    async with running(tmp_path, channel=Breaks(), delivery_retry_seconds=0.01) as host:
        await host.do("agent_group.add", name="other", provider="scripted")
        await host.do("wiring.add", messaging_group=CHAT, agent_group="other", engage="pattern", pattern="^other")
        await host.say("break")
        await host.say("other")
        await hears(host, "scripted: other")
        await host.say("hello")
        await hears(host, "scripted: hello")
        await host.settled()
        assert any("the channel failed: KeyError" in text for text in host.texts())


class Names(MemoryChannel):
    """A platform whose ids are nothing that can be stored as it is."""

    async def deliver(self, message: Outgoing) -> str | None:
        await super().deliver(message)
        return {"half": "\ud800", "list": [message.key], "long": "x" * 10_000}[message.text.split()[-1]]  # type: ignore[return-value]


async def test_whatever_a_platform_calls_a_message_it_is_recorded(tmp_path: Path) -> None:
    async with running(tmp_path, channel=Names(idempotent=False)) as host:
        await add_chats(host, "two")
        for text in ("half", "list", "long"):
            await host.say(text)
        await hears(host, "scripted: long")
        await host.say("half", chat="two")
        await host.settled()
        assert len(said(host)) == 4
        assert texts_to(host, "two") == ["scripted: half"]
        found = await host.central("SELECT status, length(platform_message_id) AS size FROM deliveries")
        assert {row["status"] for row in found} == {"delivered"}
        assert all(row["size"] <= 500 for row in found)


class OnAFullDisk(MemoryChannel):
    """A channel that cannot write its own file for a while, longer than a fault of its own is put up with."""

    async def deliver(self, message: Outgoing) -> str | None:
        if self.attempts < 12:
            self.attempts += 1
            raise FileTrouble("the disk is full")
        return await super().deliver(message)


async def test_a_disk_that_is_full_for_a_while_loses_no_message(tmp_path: Path) -> None:
    async with running(tmp_path, channel=OnAFullDisk(), delivery_retry_seconds=0.001) as host:
        assert await host.ask("hello") == "scripted: hello"
