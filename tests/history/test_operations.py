"""Search and transcript as people ask for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from host.operations.registry import stream
from shared_schema.errors import InvalidValue, NotFound
from tests.support.host import Host, running
from tests.support.wait import until


async def found(host: Host, query: str, **filters: Any) -> list[str]:
    """The snippets of the hits, the newest first."""
    return [hit["snippet"] for hit in (await host.do("session.search", query=query, **filters))["hits"]]


async def session_in(host: Host, chat: str) -> str:
    """The id of the session of a chat."""
    listed = await host.do("session.list", messaging_group=f"memory:{chat}")
    return str(listed[0]["id"])


async def another_chat(host: Host, chat: str, agent: str = "assistant") -> None:
    await host.do("messaging_group.add", address=f"memory:{chat}", is_group=True, unknown_sender="public")
    await host.do("wiring.add", messaging_group=f"memory:{chat}", agent_group=agent)


async def test_a_hit_shows_the_messages_around_it_in_its_own_session(tmp_path: Path) -> None:
    """FAILURES 37."""
    async with running(tmp_path) as host:
        await another_chat(host, "two")
        await host.ask("reply 1 first")
        await host.ask("reply 1 stranger", chat="two")
        await host.ask("reply 1 needle")
        await host.ask("reply 1 stranger again", chat="two")
        await host.ask("reply 1 last")

        (hit,) = (await host.do("session.search", query='"needle 1"'))["hits"]
        assert hit["session_id"] == await session_in(host, "one")
        assert (hit["role"], hit["snippet"], hit["marks"]) == ("assistant", "needle 1", [[0, 8]])
        assert (hit["before"]["text"], hit["after"]["text"]) == ("reply 1 needle", "reply 1 last")
        assert (hit["agent_group"], hit["messaging_group"]) == ("assistant", "memory:one")


async def test_filters_say_which_hits_are_meant(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("agent_group.add", name="other", provider="scripted")
        await another_chat(host, "two", "other")
        await host.ask("apple of ann")
        await host.ask("apple of bob", chat="two", sender="bob")

        assert len(await found(host, "apple")) == 4
        assert await found(host, "apple", role="user", agent_group="other") == ["apple of bob"]
        assert await found(host, "apple", role="user", channel="memory:one") == ["apple of ann"]
        assert await found(host, "apple", role="assistant", channel="memory:two") == ["scripted: apple of bob"]
        assert await found(host, "apple", sender="BOB") == ["apple of bob"]
        assert await found(host, "apple", role="user", session=await session_in(host, "two")) == ["apple of bob"]
        assert len(await found(host, "apple", since="1h", until="2999-01-01", limit=3)) == 3
        assert await found(host, "apple", until="2020-01-01") == []
        assert await found(host, "apple", since="2999-01-01T12:00+02:00") == []
        assert await found(host, "apple", channel="telegram") == []


async def test_nobody_finds_what_is_of_an_agent_group_they_may_not_see(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("agent_group.add", name="other", provider="scripted")
        await another_chat(host, "two", "other")
        await host.ask("apple of ann")
        await host.ask("apple of bob", chat="two")
        groups = {group["name"]: group["id"] for group in await host.do("agent_group.list")}
        mine = [groups["assistant"]]

        assert await found(host, "apple", role="user", scope=mine) == ["apple of ann"]
        assert await found(host, "pple", role="user", scope=mine) == ["apple of ann"]
        assert await found(host, "apple", scope=mine, agent_group="other") == []
        assert await found(host, "apple", scope=[]) == []
        with pytest.raises(NotFound):
            await found(host, "apple", scope=mine, session=await session_in(host, "two"))


MALFORMED = ("yesterday", "2026-13-01", "", "7x", "0001-01-01", "9" * 7 + "d", "2026-02-28T25:00")


async def test_a_malformed_time_or_query_is_an_error(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        for wrong in [{"since": text} for text in MALFORMED] + [{"until": text} for text in MALFORMED]:
            with pytest.raises(InvalidValue):
                await host.do("session.search", query="x", **wrong)
        for query in ("", " ", "x" * 1001):
            with pytest.raises(InvalidValue):
                await host.do("session.search", query=query)


async def test_what_was_deleted_is_not_found(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("apple")
        assert await found(host, "apple", role="user") == ["apple"]
        await host.do("session.delete", session=await session_in(host, "one"))
        assert await found(host, "apple") == []


async def test_what_was_deleted_takes_no_place_among_the_hits(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await another_chat(host, "two")
        await host.ask("apple of ann")
        await host.ask("apple of bob", chat="two")
        assert await found(host, "apple", limit=1) == ["scripted: apple of bob"]
        await host.do("session.delete", session=await session_in(host, "two"))
        assert await found(host, "apple", limit=1) == ["scripted: apple of ann"]


async def test_a_transcript_has_the_reply_as_soon_as_it_was_sent_and_what_became_of_it(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("steps 2\nreply 1 done")
        session = await session_in(host, "one")
        assert [entry["text"] for entry in await host.do("session.transcript", session=session)][-1] == "done 1"
        await host.ask("fail on purpose")
        await host.settled()

        told = await host.do("session.transcript", session=session)
        assert [(entry["direction"], entry["sender"], entry["status"]) for entry in told] == [
            ("in", "ann", "completed"),
            ("out", "assistant", "delivered"),
            ("in", "ann", "failed"),
            ("out", "dumbwaiter", "delivered"),
        ]
        assert "on purpose" in told[-1]["text"]
        assert set(told[0]) == {"id", "direction", "time", "sender", "text", "files", "kind", "status"}

        with_steps = await host.do("session.transcript", session=session, steps=True)
        assert [entry["text"] for entry in with_steps if entry.get("role") == "tool"] == ["step 1", "step 2"]
        assert [entry["id"] for entry in with_steps if entry["direction"] != "step"] == [entry["id"] for entry in told]
        assert await host.do("session.transcript", session=session, limit=1) == told[-1:]


async def test_history_can_be_made_again_while_a_host_runs(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("apple")
        told = [progress async for progress in stream(host.services, "history.rebuild", {})]
        assert (told[-1]["stage"], told[-1]["sessions"], told[-1]["entries"] >= 2) == ("done", 1, True)
        assert len(await found(host, "apple", role="user")) == 1
        await host.ask("another apple")
        assert await found(host, "apple", role="user") == ["another apple", "apple"]
        assert sorted(path.name for path in tmp_path.glob("history.db*")) == [
            "history.db", "history.db-shm", "history.db-wal",
        ]  # fmt: skip


async def exported(host: Host, path: Path, **parameters: Any) -> list[dict[str, Any]]:
    """What an export says, which is now also in a file."""
    lines = [line async for line in stream(host.services, "session.export", parameters)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return lines


async def test_whoever_leaves_while_history_is_made_again_leaves_nothing_behind(tmp_path: Path) -> None:
    """Found by fuzzing."""
    async with running(tmp_path) as host:
        await host.ask("reply 1 walrus")

        async def follow() -> None:
            async for _ in stream(host.services, "history.rebuild", {}):
                pass

        for turns_of_the_loop in range(8):
            following = asyncio.create_task(follow())
            for _ in range(turns_of_the_loop):
                await asyncio.sleep(0)
            following.cancel()
            with pytest.raises(asyncio.CancelledError):
                await following
        assert not list(tmp_path.glob("history.db.new*"))
        assert (await host.do("session.search", query="walrus"))["hits"]


async def test_an_exported_session_can_be_imported_elsewhere_with_all_it_had(tmp_path: Path) -> None:
    async with running(tmp_path / "one") as host:
        await host.ask("steps 2\nreply 2 中文字")
        await host.ask("fail on purpose")
        await host.settled()
        await host.do("session.title", session=await session_in(host, "one"), title="A talk")
        lines = await exported(host, tmp_path / "export")
        assert await host.do("session.import", path=str(tmp_path / "export")) == {
            "imported": [],
            "present": [lines[0]["id"]],
        }
    async with running(tmp_path / "two") as host:
        done = await host.do("session.import", path=str(tmp_path / "export"))
        assert done == {"imported": [lines[0]["id"]], "present": []}
        again = await host.do("session.import", path=str(tmp_path / "export"))
        assert again == {"imported": [], "present": [lines[0]["id"]]}

        assert len(await found(host, "中文")) == 3
        (session,) = await host.do("session.list")
        assert (session["status"], session["title"], session["messaging_group"]) == ("ended", "A talk", "memory:one")
        assert (await exported(host, tmp_path / "again"))[1:] == lines[1:]

        await host.do("agent_group.add", name="other", provider="scripted")
        (other,) = (await host.do("session.import", path=str(tmp_path / "export"), agent_group="other"))["imported"]
        assert other != session["id"]
        once_more = await host.do("session.import", path=str(tmp_path / "export"), agent_group="other")
        assert once_more == {"imported": [], "present": [other]}
        assert host.channel.sent == []


SESSION = {
    "type": "session", "format": 1, "id": "ses_0123456789abcdef", "agent_group": "assistant",
    "created_at": "2026-02-28T12:00:00.000Z", "last_active": "2026-02-28T12:00:00.000Z",
}  # fmt: skip
ENTRY = {"type": "entry", "source": "messages_in", "seq": 1, "kind": "chat", "trigger": 1, "message_id": "m",
         "content": "{}"}  # fmt: skip


NO_EXPORTS: list[list[Any]] = [
    ["no json"],
    [[1]],
    [ENTRY],
    [SESSION | {"format": 2}],
    [SESSION | {"id": "../../x"}],
    [SESSION | {"created_at": "yesterday"}],
    [SESSION | {"agent_group": "nobody"}],
    [SESSION, ENTRY | {"source": "turns"}],
    [SESSION, ENTRY | {"seq": -1}],
    [SESSION, ENTRY | {"seq": 2**70}],
    [SESSION, ENTRY | {"seq": True}],
    [SESSION, ENTRY | {"content": "[]"}],
    [SESSION, ENTRY | {"content": None}],
    [SESSION, ENTRY | {"kind": "?"}],
    [SESSION, ENTRY, ENTRY],
    [SESSION, ENTRY | {"source": "steps"}],
]


async def test_what_is_no_export_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        path = tmp_path / "lines"
        for lines in NO_EXPORTS:
            path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
            with pytest.raises((InvalidValue, NotFound)):
                await host.do("session.import", path=str(path))
            assert await host.do("session.list") == [], lines
            assert list((tmp_path / "sessions").glob("*/*")) == [], lines


async def long_session(host: Host) -> str:
    """The id of a session with twelve messages."""
    await host.say("reply 11 old")
    await until(lambda: len(host.channel.sent) == 11, "all was said")
    return await session_in(host, "one")


def tailing(host: Host, session: str, **parameters: Any) -> AbstractAsyncContextManager[AsyncIterator[dict[str, Any]]]:
    return aclosing(
        cast(AsyncGenerator[dict[str, Any]], stream(host.services, "session.tail", {"session": session} | parameters))
    )


async def next_of(tail: AsyncIterator[dict[str, Any]], count: int) -> list[str]:
    """The texts of the next entries that a tail tells."""
    async with asyncio.timeout(60):
        return [(await anext(tail))["text"] for _ in range(count)]


async def test_a_tail_goes_on_with_what_is_new(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        session = await long_session(host)
        async with tailing(host, session, last=3) as tail:
            assert await next_of(tail, 3) == ["old 9", "old 10", "old 11"]
            await host.ask("hello")
            assert await next_of(tail, 2) == ["hello", "scripted: hello"]


async def test_a_tail_that_begins_with_nothing_tells_nothing_old(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        session = await long_session(host)
        async with tailing(host, session, last=0) as tail:
            first = asyncio.create_task(next_of(tail, 1))
            while not first.done():
                await host.ask("hello")
            assert await first in (["hello"], ["scripted: hello"])


async def test_a_tail_leaves_nothing_out_however_much_is_new(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        async with tailing(host, await session_in(host, "one")) as tail:
            assert await next_of(tail, 2) == ["hello", "scripted: hello"]
            await host.say("reply 300 new")
            await until(lambda: len(host.channel.sent) == 301, "all was said")
            assert await next_of(tail, 301) == ["reply 300 new", *[f"new {number}" for number in range(1, 301)]]
