"""A task that an agent delegates: at work by itself, bounded, and its result one message for who asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from host.agents.delegating import MOST_AT_ONCE
from host.central import rate_limits
from host.central.database import Transaction
from host.central.rate_limits import Act
from shared_schema.clock import to_text
from tests.delivery.test_between_agents import two_agents
from tests.support.failpoints import Point, arm, disarm, mortal
from tests.support.host import AGENT, Host, running
from tests.support.wait import until, until_sync

WORKER = "host.operations.delegate"
WORKED_AT = """
SELECT 1 FROM turns t JOIN delegations d ON d.session_id = t.session_id
WHERE t.status = 'running' AND d.state = 'running'
"""


def task(text: str, **options: object) -> str:
    return f"call delegate {json.dumps({'task': text, **options})}"


async def told(host: Host, part: str) -> str:
    texts = await until(lambda: [text for text in host.texts() if part in text], f"'{part}' is said")
    return texts[0]


async def states(host: Host) -> list[str]:
    return [row["state"] for row in await host.central("SELECT state FROM delegations ORDER BY created_at, id")]


async def test_tasks_run_at_the_same_time_and_each_result_is_one_message(tmp_path: Path) -> None:
    async with two_agents(tmp_path, max_agents=6) as host:
        lines = [
            task('call send_message {"text": "half"}\nreply 1 walrus'),
            task("attach report.txt 7", agent="helper"),
        ]
        await host.say("\n".join(lines))
        first = await told(host, "The task that you gave to assistant")
        second = await told(host, "The task that you gave to helper")
        assert "is done." in first
        await host.settled()
        assert await states(host) == ["done", "done"]
        heard = await host.central("SELECT content FROM ingest WHERE sender_name = 'Dumbwaiter'")
        contents = [json.loads(row["content"]) for row in heard]
        assert len(contents) == 2
        assert any("half\n\nsent as out-1\n\nwalrus 1" in content["text"] for content in contents)
        (name,) = [file["name"] for content in contents for file in content.get("files", [])]
        (mine,) = [each for each in await host.do("session.list") if each["kind"] == "chat"]
        assert [path.read_bytes() for path in Path(mine["path"]).glob(f"inbox/*/{name}")] == [b"x" * 7]
        assert "attached report.txt" in second or "helper" in second
        kinds = {each["kind"]: each["status"] for each in await host.do("session.list")}
        assert kinds == {"chat": "active", "agent": "archived"}


async def test_a_task_that_fails_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.say(task("fail the tea is cold"))
        await told(host, "has failed.")
        heard = await host.central("SELECT content FROM ingest WHERE sender_name = 'Dumbwaiter'")
        assert "This message could not be answered: the tea is cold" in heard[0]["content"]


async def test_only_so_many_run_at_once_and_stopping_the_conversation_stops_them(tmp_path: Path) -> None:
    async with running(tmp_path, max_agents=8) as host:
        await host.say("\n".join([task("stall")] * (MOST_AT_ONCE + 1)))
        await told(host, f"Error: {MOST_AT_ONCE} tasks of this conversation run already")
        working = "SELECT count(*) AS n FROM turns WHERE status = 'running'"

        async def all_work() -> bool:
            return (await host.central(working))[0]["n"] == MOST_AT_ONCE

        await until(all_work, "all tasks are worked at", 60)
        await host.say("/stop")

        async def all_stopped() -> bool:
            return await states(host) == ["stopped"] * MOST_AT_ONCE

        await until(all_stopped, "they are stopped", 60)
        await host.settled()
        assert await host.central("SELECT 1 FROM ingest WHERE sender_name = 'Dumbwaiter'") == []


async def test_a_task_whose_tokens_are_used_up_is_stopped_and_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.say(task("use 300\nreply 1 word", tokens=1_000))
        await told(host, "The task that you gave to assistant")
        await host.say(task("stall", tokens=1_000))
        await until(lambda: host.central(WORKED_AT), "it is worked at")
        await host.services.central.write(
            lambda c: c.execute("UPDATE delegations SET called_tokens = 2000 WHERE state = 'running'")
        )
        await told(host, "has used up its tokens, and was stopped.")


async def test_a_task_whose_time_is_over_is_stopped_and_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.say(task('call send_message {"text": "half done"}\nstall', minutes=1))
        await until(lambda: host.central("SELECT 1 FROM deliveries WHERE content LIKE '%half done%'"), "it has begun")
        await host.services.central.write(
            lambda c: c.execute("UPDATE delegations SET deadline = '2020-01-01T00:00:00.000Z'")
        )
        await told(host, "had no time left, and was stopped.")
        heard = await host.central("SELECT content FROM ingest WHERE sender_name = 'Dumbwaiter'")
        assert "half done" in heard[0]["content"]


async def at_work(host: Host) -> bool:
    return bool(await host.central("SELECT 1 FROM deliveries WHERE content LIKE '%half done%'"))


async def test_a_task_outlives_a_restart_of_the_host_and_its_result_is_told_once(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.say(task('call send_message {"text": "half done"}\nstall', minutes=1))
        await until(lambda: at_work(host), "it has begun")
    async with running(tmp_path) as host:
        await until(lambda: host.central(WORKED_AT), "it is worked at again")
        await host.services.central.write(
            lambda tx: tx.execute("UPDATE delegations SET deadline = '2020-01-01T00:00:00.000Z'")
        )
        await told(host, "had no time left, and was stopped.")
        await host.settled()
        assert await states(host) == ["late"]
        heard = await host.central("SELECT 1 FROM ingest WHERE sender_name = 'Dumbwaiter'")
        assert len(heard) == 1


@pytest.mark.parametrize("for_good", [False, True])
async def test_a_task_whose_conversation_is_deleted_is_stopped(tmp_path: Path, for_good: bool) -> None:
    async with running(tmp_path) as host:
        await host.say(task('call send_message {"text": "half done"}\nstall'))
        await until(lambda: at_work(host), "it has begun")
        (parent,) = [each["id"] for each in await host.do("session.list") if each["kind"] == "chat"]
        await host.do("session.delete", session=parent, for_good=for_good)

        async def is_stopped() -> bool:
            return await states(host) == ["stopped"]

        await until(is_stopped, "it is stopped", 60)
        (worker,) = [each for each in await host.do("session.list") if each["kind"] == "agent"]
        assert worker["status"] == "archived"


async def test_what_is_too_much_is_told_to_the_agent_and_once_to_the_person(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        most = rate_limits.PER_HOUR[Act.DELEGATIONS]

        def use_up(tx: Transaction) -> None:
            for _ in range(most):
                rate_limits.take(tx, Act.DELEGATIONS, AGENT)

        await host.services.central.write(use_up)
        await host.say("\n".join([task("reply 1 word")] * 2))
        await told(host, f"Error: {AGENT} has delegated {most} tasks in this hour")
        await told(host, f"{AGENT} has delegated {most} tasks in this hour.")
        await host.settled()
        notices = [text for text in host.texts() if text == f"{AGENT} has delegated {most} tasks in this hour."]
        assert len(notices) == 1
        assert await states(host) == []
        struck = await host.services.central.read(rate_limits.struck, to_text(host.services.clock.now()))
        assert Act.DELEGATION_LIMITS in [row["act"] for row in struck]


async def test_a_task_hands_on_no_task(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.say(task(task("reply 1 deep")))
        await told(host, "is done.")
        heard = await host.central("SELECT content FROM ingest WHERE sender_name = 'Dumbwaiter'")
        assert "this is a task that was delegated to you" in heard[0]["content"]
        assert await states(host) == ["done"]


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(
            Point("delegate: begun, not answered", WORKER, "begin", "services.delegated.set("), marks=pytest.mark.full
        ),
        Point("delegate: done, not handed back", WORKER, "_look_after", "handed = await"),
        pytest.param(
            Point("delegate: handed back, agent not told", WORKER, "_look_after", "if not handed"),
            marks=pytest.mark.full,
        ),
    ],
    ids=str,
)
def test_a_host_that_dies_over_a_task_loses_and_doubles_nothing(tmp_path: Path, point: Point) -> None:
    with mortal(tmp_path / "data", "host", "run", "--data") as host:
        host.call("agent_group.set", name=AGENT, provider="scripted")
        host.call("messaging_group.add", address="cli:one", is_group=True, unknown_sender="public")
        host.call("wiring.add", messaging_group="cli:one", agent_group=AGENT)
        arm(host.folder, point.plan)
        host.call("message.inject", messaging_group="cli:one", text=task("attach report.txt 7"))
        host.dies(point)
        disarm(host.folder)
        host.start()
        answers = "SELECT 1 FROM deliveries WHERE channel_type = 'cli' AND content LIKE '%scripted: The task that%'"
        until_sync(lambda: host.rows(answers), "the result came", 90)
        until_sync(lambda: not host.rows("SELECT 1 FROM ingest WHERE status = 'pending'"), "nothing is open", 60)
        assert len(host.rows(answers)) == 1
        assert [row["state"] for row in host.rows("SELECT state FROM delegations")] == ["done"]
