"""A message goes in, an agent answers, the reply comes out."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from shared_schema.database import open_writer
from tests.support.host import AGENT, Host, rows, running
from tests.support.wait import until


async def test_a_message_is_answered_in_the_chat_it_came_from(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        assert await host.ask("good morning", chat="one") == "scripted: good morning"
        assert host.channel.sent[0].address.platform_id == "one"


async def test_the_session_folder_shows_the_conversation(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("good morning")
        await host.settled()
        folder = await host.session()
        asked = rows(folder.inbound, "SELECT seq, kind, status, content FROM messages_in")
        assert asked == [{"seq": 1, "kind": "chat", "status": "completed", "content": '{"text":"good morning"}'}]
        said = rows(folder.folder / "outbound.db", "SELECT id, content FROM messages_out")
        assert [row["content"] for row in said] == ['{"text":"scripted: good morning"}']
        told = rows(folder.inbound, "SELECT message_out_id, status, attempts FROM delivered")
        assert told == [{"message_out_id": said[0]["id"], "status": "delivered", "attempts": 1}]


async def test_without_any_notification_the_round_trip_works_by_polling(tmp_path: Path) -> None:
    async with running(tmp_path, notify="off", poll_seconds=0.2) as host:
        for number in range(3):
            assert await host.ask(f"number {number}") == f"scripted: number {number}"
        environment = Path(f"/proc/{_pid(host)}/environ").read_bytes()
        assert b"DUMBWAITER_NOTIFY=off" in environment


async def test_with_watchfiles_the_round_trip_works_by_its_hints(tmp_path: Path) -> None:
    async with running(tmp_path, notify="watchfiles", poll_seconds=3600) as host:
        for number in range(3):
            assert await host.ask(f"number {number}") == f"scripted: number {number}"


async def test_on_this_system_the_round_trip_works_by_hints_alone(tmp_path: Path) -> None:
    async with running(tmp_path, poll_seconds=3600) as host:
        for number in range(3):
            assert await host.ask(f"number {number}") == f"scripted: number {number}"


async def test_an_idle_agent_is_stopped_and_the_next_message_starts_another(tmp_path: Path) -> None:
    async with running(tmp_path, idle_seconds=0.3, poll_seconds=0.1) as host:
        await host.ask("one")
        first = _pid(host)
        await until(lambda: not host.services.supervisor.agents, "the agent was stopped")
        assert not Path(f"/proc/{first}").exists()
        assert await host.ask("two") == "scripted: two"


async def test_what_an_agent_is_told_is_written_again_only_when_it_has_changed(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("one")
        folder = await host.session()
        await host.settled()
        mark = "INSERT INTO session_context (key, value) VALUES ('a_mark', 'of the test')"
        with closing(open_writer(folder.inbound)) as connection:
            connection.execute(mark)
        find = "SELECT value FROM session_context WHERE key = 'a_mark'"
        await host.ask("two")
        assert len(rows(folder.inbound, find)) == 1
        await host.do("agent_group.set", name=AGENT, model="another")
        assert rows(folder.inbound, find) == []
        assert rows(folder.inbound, "SELECT value FROM session_context WHERE key = 'model'") == [{"value": "another"}]


async def test_what_became_of_a_message_goes_into_the_file_with_the_next_one(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        for number in range(5):
            await host.ask(f"number {number}")
        await host.settled()
        folder = await host.session()
        told = rows(folder.inbound, "SELECT status FROM messages_in") + rows(
            folder.inbound, "SELECT status FROM delivered"
        )
        assert [row["status"] for row in told] == ["completed"] * 5 + ["delivered"] * 5


def _pid(host: Host) -> int:
    (agent,) = host.services.supervisor.agents.values()
    return int(agent.handle.reference)
