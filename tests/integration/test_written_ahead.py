"""A window shows what an agent has written before the ledger has it, and the ledger's own a moment later."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

from host.operations.registry import stream
from host.operations.written_ahead import WrittenAhead
from host.services import Services
from shared_schema.layout import SessionLayout
from tests.support.host import AGENT, CHAT, Host, running

_PATIENT = 60.0


async def _say(host: Host, text: str, number: int) -> str:
    sent = await host.do(
        "conversation.send", user="cli:terminal", agent_group=AGENT, thread="one", text=text, message_id=f"m{number}"
    )
    return str(sent["session_id"])


async def _told(window: AsyncIterator[dict[str, Any]], kind: str, text: str) -> dict[str, Any]:
    """The next thing of a kind that a window is told with this in it."""
    async with asyncio.timeout(_PATIENT):
        async for each in window:
            said = each.get("draft", "") if kind == "working" else str(each.get("entries"))
            if each["type"] == kind and text in said:
                return each
    raise AssertionError(f"{text!r} is not told")


async def test_a_window_shows_an_answer_before_the_ledger_has_it(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        session = await _say(host, "warm up", 1)
        await host.settled()
        async with aclosing(stream(host.services, "conversation.follow", {"session": session})) as window:
            await _told(window, "entries", "scripted: warm up")
            await _say(host, "write 0.05 " + "word " * 20 + "end", 2)
            await _told(window, "working", "word word")
            with _held(host.services):
                whole = await _told(window, "working", "word end")
                assert whole["draft"].count("word") == 20
                (known,) = await host.central("SELECT count(*) AS n FROM deliveries WHERE session_id = ?", session)
                assert known["n"] == 1, "the ledger has the first answer alone"
            shown = await _told(window, "entries", "word end")
            assert shown["entries"][-1]["direction"] == "out"


class _held:
    """Nothing is written into the ledger until the block ends."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._begun, self._over = threading.Event(), threading.Event()

    def _hold(self, tx: object) -> None:
        self._begun.set()
        assert self._over.wait(_PATIENT)

    def __enter__(self) -> None:
        self._held = self._services.central.submit(self._hold)
        assert self._begun.wait(_PATIENT)

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._held.result(_PATIENT)


async def test_a_message_for_elsewhere_is_not_shown_as_the_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        session = await _say(host, "warm up", 1)
        await host.settled()
        await host.do("destination.add", agent_group=AGENT, name="room", messaging_group=CHAT)
        async with aclosing(stream(host.services, "conversation.follow", {"session": session})) as window:
            await _told(window, "entries", "scripted: warm up")
            await _say(host, "to room for the room\nwrite 0.05 " + "word " * 20, 2)
            await _told(window, "working", "word word")
            with _held(host.services):
                async with asyncio.timeout(_PATIENT):
                    drafts: list[str] = []
                    async for each in window:
                        drafts += [each["draft"]] if each["type"] == "working" else []
                        if drafts[-1:] == [""]:  # the draft is gone, and its answer stands behind that message
                            break
            assert not any("room" in each for each in drafts), drafts


async def test_a_file_that_is_busy_is_looked_at_again_soon(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        session = await _say(host, "warm up", 1)
        await host.settled()
        ahead = WrittenAhead(host.services, session)
        await ahead.look(out_cursor=0)
        assert ahead.again_in is None
        assert ahead.message is not None
        with closing(sqlite3.connect(await _outbound(host), isolation_level=None)) as connection:
            connection.execute("INSERT INTO session_state VALUES ('x', 'x', 'x')")  # so that it has changed
            connection.execute("BEGIN EXCLUSIVE")
            await ahead.look(out_cursor=0)
            first = ahead.again_in
            await ahead.look(out_cursor=0)
            assert first is not None
            assert ahead.again_in is not None
            assert first < ahead.again_in <= 0.5
            assert ahead.message is not None, "what was seen last stays"
            connection.execute("ROLLBACK")
        await ahead.look(out_cursor=ahead.message.seq)
        assert (ahead.again_in, ahead.message) == (None, None)


async def _outbound(host: Host) -> Path:
    layout: SessionLayout = await host.session()
    return layout.outbound
