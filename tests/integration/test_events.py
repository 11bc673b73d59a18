"""Live views: what happened, and what happens, numbered."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

from host.central.events import EventKind
from host.operations.registry import stream
from tests.support.host import Host, running
from tests.support.wait import until


async def follow(host: Host, count: int, **parameters: Any) -> list[dict[str, Any]]:
    """The next events of the stream, as soon as there are that many."""
    found = []
    async with asyncio.timeout(60), aclosing(stream(host.services, "events", parameters)) as coming:  # type: ignore[type-var]
        async for event in coming:
            found.append(event)
            if len(found) == count:
                break
    return found


async def test_a_turn_and_a_title_are_told_with_their_session(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        await host.settled()
        (session,) = await host.do("session.list")
        told = await host.do("events")
        assert [event["number"] for event in told] == list(range(1, len(told) + 1))
        assert {event["session_id"] for event in told} == {session["id"]}
        ends = [event for event in told if event["kind"] == EventKind.TURN_ENDED]
        assert len(ends) == 1
        assert ends[0]["data"]["status"] == "completed"
        assert {"title": "hello", "source": "first-words"} in [event["data"] for event in told]
        assert await host.do("events", after=told[-1]["number"]) == []
        assert await host.do("events", limit=1) == told[-1:]
        assert await host.do("events", session=session["id"], limit=1) == told[-1:]


async def test_whoever_follows_hears_at_once_and_begins_where_they_ask(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        await host.settled()
        (session,) = await host.do("session.list")
        before = await host.do("events")
        assert await follow(host, len(before), after=0) == before
        coming = asyncio.create_task(follow(host, 2))
        other = asyncio.create_task(follow(host, 1, session=session["id"], after=before[-1]["number"]))
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            while not coming.done():
                name = f"title {host.services.clock.monotonic()}"
                await host.do("session.title", session=session["id"], title=name)
        assert [event["kind"] for event in await coming] == ["session-title"] * 2
        assert (await other)[0]["number"] == before[-1]["number"] + 1


async def test_a_session_is_read_by_whoever_looks_at_it_and_not_by_asking_where_it_is(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        await host.settled()
        (session,) = await host.do("session.list", unread=True)
        assert await host.do("session.path", session=session["id"]) == {"path": session["path"]}
        assert len(await host.do("session.list", unread=True)) == 1
        assert (await host.do("session.show", session=session["id"]))["path"] == session["path"]
        assert await host.do("session.list", unread=True) == []


async def test_live_views_hear_of_the_end_of_a_turn_whose_session_is_removed_for_good(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        accepted = (await host.say("stall")).accepted[0]

        async def runs() -> bool:
            return bool(await host.central("SELECT 1 FROM turns WHERE status = 'running'"))

        await until(runs, "the turn runs")
        (turn,) = await host.central("SELECT id FROM turns")
        await host.do("session.delete", session=accepted.session_id, for_good=True)
        found = await host.central("SELECT kind, data FROM events WHERE session_id = ?", accepted.session_id)
        assert [row["kind"] for row in found][-2:] == ["turn-ended", "session-removed"]
        assert json.loads(found[-2]["data"]) == {"turn_id": turn["id"], "status": "cancelled"}
