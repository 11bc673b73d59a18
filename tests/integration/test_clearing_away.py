"""What is removed because it is old: sessions, and files of messages that no agent will see."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from host.central import ingest, routes, sessions
from host.central.database import Transaction
from host.history import store
from host.operations.prune import clear_away
from host.runtime.process import ProcessRuntime
from host.runtime.protocol import AgentHandle, RuntimeUnavailable
from host.sessions import transitions
from host.sessions.attachments import Attachment
from shared_schema.layout import DataLayout
from tests.support.chats import add_chats, ask_in, session_of
from tests.support.clocks import JumpingClock
from tests.support.host import Host, running
from tests.support.ledger import refusing
from tests.support.runtimes import install_id
from tests.support.transaction import at
from tests.support.wait import until

DAY = 24 * 3600.0
NOW = "2026-02-28T12:00:00.000Z"


async def statuses(host: Host) -> dict[str, str]:
    """The status of every session there is."""
    return {row["id"]: row["status"] for row in await host.central("SELECT id, status FROM sessions")}


def spooled(data: Path) -> list[Path]:
    """The files of messages that are in no session."""
    return list(DataLayout(data).spool.glob("*/*"))


def a_file(folder: Path) -> Attachment:
    path = folder / "map.txt"
    path.write_bytes(b"north")
    return Attachment(path.name, path)


async def test_files_of_a_refused_message_are_removed_while_the_host_runs(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await host.ask("hello")
        await host.do("session.archive", session=await session_of(host, "one"))
        assert "archived" in await host.ask("anybody?", files=[a_file(tmp_path)])
        assert len(spooled(tmp_path / "data")) == 1

        found = await clear_away(host.services, set())
        assert len(spooled(tmp_path / "data")) == 1, "it might have been of an event that is about to be accepted"
        await clear_away(host.services, found)
        assert spooled(tmp_path / "data") == []


async def test_files_of_a_message_that_waits_are_kept_until_it_is_cancelled(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await host.ask("hello")
        session = await session_of(host, "one")
        async with host.services.supervisor.holding(session):
            await host.say("look", files=[a_file(tmp_path)])
            found = await clear_away(host.services, {path.parent.name for path in spooled(tmp_path / "data")})
            assert (found, len(spooled(tmp_path / "data"))) == (set(), 1)
            await host.services.central.write(lambda c: ingest.cancel_session(at(c, NOW), session))
            await clear_away(host.services, await clear_away(host.services, set()))
            assert spooled(tmp_path / "data") == []


@pytest.mark.parametrize("for_good", [False, True])
async def test_what_is_taken_up_or_removed_meanwhile_is_not_pruned(tmp_path: Path, for_good: bool) -> None:
    clock = JumpingClock()
    async with running(tmp_path, clock=clock) as host:
        await add_chats(host, "two", "three")
        ended = []
        for chat in ("one", "two", "three"):
            await ask_in(host, chat, "hello")
            ended.append(await session_of(host, chat))
            await host.do("session.new", session=ended[-1])
        clock.jump(30 * DAY)
        first, second, third = ended

        async with host.services.supervisor.holding(second):
            pruning = asyncio.create_task(host.do("session.prune", older_than_days=7.0, apply=True, for_good=for_good))
            await until(lambda: gone(host, first), "the first session is deleted")
            await host.services.central.write(sessions.delete, second)
            await host.do("session.resume", session=third)
        assert [each["id"] for each in (await pruning)["sessions"]] == [first]
        assert (await statuses(host))[third] == "active"
        assert await ask_in(host, "three", "hello") == "scripted: hello"


async def gone(host: Host, session_id: str) -> bool:
    return (await statuses(host)).get(session_id, "deleted") == "deleted"


async def test_a_folder_that_cannot_be_removed_holds_up_no_other_session(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path, clock=clock) as host:
        await add_chats(host, "two")
        folders = {}
        for chat in ("one", "two"):
            await ask_in(host, chat, "hello")
            session = await session_of(host, chat)
            folders[session] = (await host.session(session)).folder
            await host.do("session.delete", session=session)
        clock.jump(2 * DAY)
        stuck, other = folders
        (folders[stuck].parent / f".removed-{stuck}").touch()

        await clear_away(host.services, set())
        assert not folders[other].exists()
        assert await statuses(host) == {}
        for session in folders:
            assert await host.services.history.read(lambda c, session=session: store.state(c, session)) is None


async def test_many_that_cannot_be_removed_hold_up_no_other_session(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path, clock=clock) as host:
        (group,) = await host.central("SELECT id FROM agent_groups")

        def delete_many(tx: Transaction) -> str:
            for number in range(151):
                session = routes.resolve(
                    tx, agent_group_id=group["id"], route_key=f"x/{number}", messaging_group_id=None, thread_id=None
                )
                transitions.delete(tx, session)
                tx.execute("UPDATE sessions SET deleted_at = ? WHERE id = ?", (f"{NOW[:-4]}{number:03}Z", session.id))
            return session.id

        last = await host.services.central.write(delete_many)
        with refusing(host.services.settings.layout.central, "DELETE ON sessions", f"OLD.id <> '{last}'"):
            await clear_away(host.services, set())
        assert last not in await statuses(host)
        assert len(await statuses(host)) == 150


async def test_what_was_restored_in_time_is_not_removed(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path, clock=clock) as host:
        await add_chats(host, "two")
        deleted = []
        for chat in ("one", "two"):
            await ask_in(host, chat, "hello")
            deleted.append(await session_of(host, chat))
            await host.do("session.delete", session=deleted[-1])
        clock.jump(2 * DAY)
        first, second = deleted
        async with host.services.supervisor.holding(second):
            clearing = asyncio.create_task(clear_away(host.services, set()))
            await until(lambda: gone_for_good(host, first), "the first session is removed")
            await host.do("session.restore", session=second)
        await clearing
        assert await statuses(host) == {second: "ended"}


async def gone_for_good(host: Host, session_id: str) -> bool:
    return session_id not in await statuses(host)


class StubbornRuntime(ProcessRuntime):
    """Does not stop agents as long as it is `stubborn`."""

    stubborn = False

    async def stop(self, handle: AgentHandle, grace: float) -> None:
        if self.stubborn:
            raise RuntimeUnavailable("the engine does not end a container")
        await super().stop(handle, grace)


async def test_a_session_whose_agent_cannot_be_stopped_is_removed_with_all_that_was_said(tmp_path: Path) -> None:
    runtime = StubbornRuntime(install_id(tmp_path), DataLayout(tmp_path).run)
    async with running(tmp_path, runtime=runtime) as host:
        await host.ask("apple")
        session = await session_of(host, "one")
        folder = (await host.session()).folder
        assert (await host.do("session.search", query="apple"))["hits"]

        runtime.stubborn = True
        with pytest.raises(RuntimeUnavailable):
            await host.do("session.delete", session=session, for_good=True)
        assert not folder.exists()
        assert await host.services.history.read(lambda c: store.state(c, session)) is None
        assert await statuses(host) == {}
        assert (await host.do("events"))[-1]["kind"] == "session-removed"

        runtime.stubborn = False
        await until(lambda: not host.services.supervisor.agents, "its agent is stopped")
        assert not folder.exists()
