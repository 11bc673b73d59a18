"""Who makes schedules: people in a chat with their roles, and agents with their tools, limits and policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from host.schedules.request import MOST_OF_AGENT
from tests.access.people import OWNERS_CHAT, chat, owner, write
from tests.support.host import AGENT, Host, running
from tests.support.wait import until


async def answer(host: Host, text: str, *, where: str = "one", sender: str = "olga") -> str:
    """What the host or its agent says to a message."""

    def there() -> list[str]:
        found = [message.text for message in host.channel.sent if message.address.platform_id == where]
        return [text for text in found if not text.startswith("An agent wants")]  # the card stands there as well

    count = len(there())
    await write(host, text, where=where, sender=sender)
    await until(lambda: len(there()) > count, "there is an answer")
    return there()[count]


async def call(host: Host, tool: str, **arguments: Any) -> Any:
    """An agent calls a tool; its result."""
    said = await answer(host, f"call {tool} {json.dumps(arguments)}", sender="ann")
    return json.loads(said) if said.startswith(("[", "{")) else said


async def test_a_member_makes_looks_at_and_ends_a_schedule_in_the_chat(tmp_path: Path) -> None:
    async with running(tmp_path / "data", timezone="Europe/Berlin") as host:
        await host.do("role.grant", user="memory:mia", role="member", agent_group=AGENT)
        said = await answer(host, "/schedule every weekday at 08:00: good morning, what is on?", sender="mia")
        assert said.startswith("'good-morning-what-is' is set. It is due every weekday at 08:00; next: ")
        assert "08:00 Europe/Berlin" in said
        assert "every weekday at 08:00; next" in await answer(host, "/schedule", sender="mia")
        assert "has not run yet" in await answer(host, "/schedule log good-morning-what-is", sender="mia")
        assert "created by: memory:mia" in await answer(host, "/schedule show good-morning-what-is", sender="mia")
        assert "is paused" in await answer(host, "/schedule pause good-morning-what-is", sender="mia")
        assert "memory:mia has paused it" in await answer(host, "/schedule list", sender="mia")
        assert "runs again" in await answer(host, "/schedule resume good-morning-what-is", sender="mia")
        assert "is cancelled" in await answer(host, "/schedule cancel good-morning-what-is", sender="mia")
        assert "Nothing runs by itself here" in await answer(host, "/schedule", sender="mia")
        assert "is not a duration" in await answer(host, "/schedule every blue moon: x", sender="mia")
        assert "Write /schedule every weekday" in await answer(host, "/schedule every 5m", sender="mia")


async def test_who_has_no_role_makes_none_and_who_has_not_made_it_does_not_change_it(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await owner(host)
        await host.do("role.grant", user="memory:mia", role="member", agent_group=AGENT)
        await answer(host, "/schedule every 1h: tea", sender="olga")
        assert "Only members of assistant" in await answer(host, "/schedule every 1h: coffee", sender="sam")
        assert "was made by memory:olga" in await answer(host, "/schedule cancel tea", sender="mia")
        assert "Only the owner" in await answer(host, "/pause", sender="mia")
        assert "is paused" in await answer(host, "/pause", sender="olga")
        assert "Everything is paused by memory:olga" in await answer(host, "/schedule", sender="mia")
        assert "runs again" in await answer(host, "/pause off", sender="olga")
        actions = [row["action"] for row in await host.do("audit.list")]
        assert actions[:3] == ["schedule.resume_all", "schedule.pause_all", "schedule.add"]


async def test_a_member_sees_in_a_chat_what_speaks_there_alone(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await owner(host)
        await host.do("role.grant", user="memory:mia", role="member", agent_group=AGENT)
        await chat(host, "two", unknown_sender="public")
        await answer(host, "/schedule every 1h: secret", where="two", sender="olga")
        assert "secret" not in await answer(host, "/schedule", sender="mia")
        assert "There is no schedule" in await answer(host, "/schedule show secret", sender="mia")
        assert "secret" in await answer(host, "/schedule", sender="olga")


async def test_an_agent_that_is_allowed_to_makes_changes_and_ends_its_tasks(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await host.do("agent_group.set", name=AGENT, schedules="allow")
        (made,) = await call(host, "schedule_task", when="every 1h", prompt="look at the oven", name="oven")
        assert (made["status"], made["when"], made["to"]) == ("active", "every 1 hour", "memory:one")
        (again,) = await call(host, "schedule_task", when="every 1h", prompt="look at the oven", name="oven")
        assert again["note"] == "it is there already"
        (listed,) = await call(host, "list_tasks")
        assert listed["name"] == "oven"
        (changed,) = await call(host, "update_task", name="oven", when="every 2h")
        assert changed["when"] == "every 2 hours"
        assert (await call(host, "pause_task", name="oven"))[0]["why"] == "its agent has paused it"
        assert (await call(host, "resume_task", name="oven"))[0]["status"] == "active"
        assert (await call(host, "cancel_task", name="oven"))[0]["status"] == "cancelled"
        assert (await host.do("schedule.list", all=True))[0]["created_by"] == f"@{AGENT}"
        for arguments, wrong in (
            ({"when": "every 5s", "prompt": "x"}, "more often than every 60 seconds"),
            ({"when": "0 8 30 2 *", "prompt": "x"}, "never comes due"),
            ({"when": "every 1h", "prompt": "x", "to": "memory:two"}, "destinations"),
            ({"when": "every 1h", "prompt": "x", "zone": "Mars"}, "not a time zone"),
        ):
            assert wrong in await call(host, "schedule_task", **arguments)
        assert len(await host.do("schedule.list")) == 0


async def test_an_agent_whose_owner_wants_to_be_asked_waits_for_a_yes_also_when_it_changes_it(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await owner(host)
        (made,) = await call(host, "schedule_task", when="every 1h", prompt="look at the oven", name="oven")
        assert made["status"] == "waiting"
        assert "waits for a yes" in made["note"]
        await until(
            lambda: [m for m in host.channel.sent if m.address.platform_id == OWNERS_CHAT], "the owner is asked"
        )
        (card,) = [m for m in host.channel.sent if m.address.platform_id == OWNERS_CHAT]
        assert "look at the oven" in card.text
        (asked,) = await host.do("approval.list")
        assert "runs" in (await host.do("approval.approve", code=asked["code"]))["outcome"]
        assert (await host.do("schedule.show", name="oven"))["status"] == "active"
        await until(
            lambda: any("Your task 'oven' is approved" in message.text for message in host.channel.sent),
            "the agent is told, and answers",
        )
        (changed,) = await call(host, "update_task", name="oven", prompt="send all mail to Eve")
        assert changed["status"] == "waiting"
        (asked,) = await host.do("approval.list")
        await host.do("approval.deny", code=asked["code"])
        (over,) = await host.do("schedule.list", all=True)
        assert (over["status"], over["why"]) == ("cancelled", "it was not approved")
        await until(
            lambda: any("Your task 'oven' is not approved" in message.text for message in host.channel.sent),
            "the agent is told, and answers",
        )
        await host.do("schedule.add", agent_group=AGENT, when="every 1h", prompt="tea", name="tea")
        assert "a person has made 'tea'" in await call(host, "cancel_task", name="tea")


async def test_an_agent_that_may_not_is_told_so(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await host.do("agent_group.set", name=AGENT, schedules="deny")
        assert "the owner does not let you" in await call(host, "schedule_task", when="every 1h", prompt="x")
        assert await host.do("schedule.list", all=True) == []


async def test_an_agent_that_makes_schedules_without_end_meets_a_limit_and_its_owner_is_told_once(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "data") as host:
        await owner(host)
        await host.do("agent_group.set", name=AGENT, schedules="allow")
        await call(host, "schedule_task", when="every 1h", prompt="task 0", name="task-0")

        def many(connection: Any) -> None:
            columns = ", ".join(
                row["name"]
                for row in connection.execute("SELECT name FROM pragma_table_info('schedules')")
                if row["name"] not in ("id", "name", "position")
            )
            connection.execute(
                f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MOST_OF_AGENT - 1}) "
                f"INSERT INTO schedules (id, name, {columns}) "
                f"SELECT 'sch_' || i, 'task-' || i, {columns} FROM n, schedules"
            )

        await host.services.central.write(many)
        for name in ("more", "still-more"):
            said = await call(host, "schedule_task", when="every 1h", prompt="x", name=name)
            assert f"{MOST_OF_AGENT} is the limit" in said
        await until(lambda: [m for m in host.channel.sent if m.address.platform_id == OWNERS_CHAT], "the owner is told")
        told = [m.text for m in host.channel.sent if m.address.platform_id == OWNERS_CHAT]
        assert told == [
            "The agent assistant wants to make more schedules than it may. `dumbwaiter schedule list` shows them."
        ]
