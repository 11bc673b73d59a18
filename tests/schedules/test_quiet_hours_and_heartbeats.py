"""Quiet hours hold what agents say by themselves; a heartbeat wakes an agent only where there is a reason."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from host.schedules.heartbeat import HeartbeatFacts, reason_to_rest
from host.schedules.heartbeat_file import look
from host.schedules.outcome import is_silent
from shared_schema.errors import Conflict, InvalidValue, NotFound
from tests.access.people import OWNER, OWNERS_CHAT, owner
from tests.schedules.test_runs import HOUR, add, ended, log, passes
from tests.support.clocks import JumpingClock
from tests.support.host import AGENT, Host, running
from tests.support.wait import until

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AGO = NOW - timedelta(minutes=30)


def around_now(clock: JumpingClock, hours: float = 2) -> str:
    """Quiet hours that it is now, for so many hours from now on."""
    begin, end = clock.now() - timedelta(hours=1), clock.now() + timedelta(hours=hours)
    return f"{begin:%H:%M}-{end:%H:%M}"


def workspace(host: Host) -> Path:
    return host.services.settings.layout.workspace(AGENT)


async def test_what_is_said_in_quiet_hours_is_held_and_the_log_says_until_when(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path / "data", clock=clock) as host:
        await host.do("quiet_hours.set", subject="memory:one", hours=around_now(clock), zone="UTC")
        await add(host, "good morning", "every 7d", name="early")
        await add(host, "fire", "every 7d", name="alarm", urgent=True)
        await host.do("schedule.run", name="early")
        await host.do("schedule.run", name="alarm")
        await ended(host, "alarm")

        async def is_held() -> bool:
            return (await log(host, "early"))[0]["state"] == "delivering"

        await until(is_held, "it is held")
        (run,) = await log(host, "early")
        assert run["delivery"].startswith("held until ")
        assert host.texts() == ["scripted: fire"]
        assert await host.ask("hello") == "scripted: hello"  # who writes is answered
        clock.jump(2.1 * HOUR)
        host.services.deliverer.kick(("memory", "one"))
        (run,) = await ended(host, "early")
        assert (run["state"], host.texts()[-1]) == ("ok", "scripted: good morning")
        await host.do("quiet_hours.remove", subject="memory:one")
        assert await host.do("quiet_hours.list") == []


async def test_a_person_is_told_of_failures_after_their_quiet_hours(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path / "data", clock=clock) as host:
        await owner(host)
        await host.do("quiet_hours.set", subject=OWNER, hours=around_now(clock), zone="UTC")
        for name, urgent in (("calm", False), ("alarm", True)):
            await add(host, "fail the oven is cold", "every 7d", name=name, urgent=urgent, max_failures=1)
            await host.services.central.write(lambda c: c.execute("UPDATE schedules SET created_by = ?", (OWNER,)))
            await host.do("schedule.run", name=name)
            await ended(host, name)

        def told() -> list[str]:
            return [m.text for m in host.channel.sent if m.address.platform_id == OWNERS_CHAT]

        await until(told, "the urgent one is told")
        assert len(told()) == 1
        assert "'alarm' is paused" in told()[0]
        clock.jump(2.1 * HOUR)
        host.services.messenger.kick()
        await until(lambda: len(told()) == 2, "the other one is told in the morning")
        assert "'calm' is paused" in told()[1]


async def test_quiet_hours_that_cannot_be_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        with pytest.raises(InvalidValue, match="does not say from when to when"):
            await host.do("quiet_hours.set", subject="memory:one", hours="22")
        with pytest.raises(NotFound, match="neither a chat nor a user"):
            await host.do("quiet_hours.set", subject="memory:none", hours="22:00-07:00")
        await host.do("role.grant", user="memory:one", role="owner")
        with pytest.raises(Conflict, match="a chat and a user"):
            await host.do("quiet_hours.set", subject="memory:one", hours="22:00-07:00")
        made = await host.do("quiet_hours.set", subject="memory:one", hours="22:00-07:00", of="user", zone="UTC")
        assert (made["of"], made["hours"]) == ("person", "22:00-07:00")


@pytest.mark.parametrize(
    ("facts", "rests"),
    [
        (HeartbeatFacts(None), True),
        (HeartbeatFacts("# Watch\n\n<!-- nothing yet -->\n- [x] done"), True),
        (HeartbeatFacts("- mail"), True),
        (HeartbeatFacts("- mail", has_new_message=True), False),
        (HeartbeatFacts("- mail", changed_at=NOW - timedelta(minutes=5)), False),
        (HeartbeatFacts("- mail", changed_at=AGO - timedelta(minutes=5)), True),
        (HeartbeatFacts("- mail", changed_at=NOW + timedelta(days=400)), True),
        (HeartbeatFacts("- always: look at the oven"), False),
        (HeartbeatFacts("- call Ann, 2026-03-01 11:45"), False),
        (HeartbeatFacts("- call Ann, 2026-03-01 12:15"), True),
        (HeartbeatFacts("- [x] called Ann, 2026-03-01 11:45"), True),
        (HeartbeatFacts("- on 2026-02-31 11:45"), True),
    ],
)
def test_a_heartbeat_has_a_reason_or_rests(facts: HeartbeatFacts, rests: bool) -> None:
    assert (reason_to_rest(facts, AGO, "UTC", NOW) is not None) is rests


def test_the_first_heartbeat_wakes_the_agent_when_there_is_anything_in_the_file() -> None:
    assert reason_to_rest(HeartbeatFacts("- mail"), None, "UTC", NOW) is None
    assert reason_to_rest(HeartbeatFacts("# Mail"), None, "UTC", NOW) is not None


def test_what_says_that_there_is_nothing_to_say() -> None:
    for text in ("[SILENT]", " [silent]\n", "HEARTBEAT_OK", "**HEARTBEAT_OK**", "All is well.\n\nHEARTBEAT_OK"):
        assert is_silent(text)
    for text in ("", "Not [SILENT] at all", "It says [SILENT] here.", "HEARTBEAT_OKAY"):
        assert not is_silent(text)


def test_the_file_of_a_heartbeat_is_read_without_following_a_link(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a key")
    space = tmp_path / "space"
    space.mkdir()
    assert look(space) == HeartbeatFacts(None, None)
    (space / "HEARTBEAT.md").symlink_to(secret)
    assert look(space).text is None
    (space / "HEARTBEAT.md").unlink()
    os.mkfifo(space / "HEARTBEAT.md")
    assert look(space).text is None
    (space / "HEARTBEAT.md").unlink()
    (space / "HEARTBEAT.md").write_bytes(b"- mail \xff\0")
    assert look(space).text == "- mail \ufffd\ufffd"
    (space / "HEARTBEAT.md").write_bytes(b"x" * 100_000)
    assert look(space).text is None
    assert look(tmp_path / "none") == HeartbeatFacts(None, None)


async def test_a_heartbeat_looks_at_its_file_and_costs_nothing_while_nothing_happens(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path / "data", clock=clock) as host:
        await host.ask("hello")
        made = await host.do("schedule.heartbeat", agent_group=AGENT, every="30m")
        assert (made["name"], made["when"]) == ("heartbeat", "every 30 minutes")
        passes(host, clock, 0.51 * HOUR)
        (first,) = await ended(host, "heartbeat")
        assert (first["state"], first["note"]) == ("skipped", "there is nothing in HEARTBEAT.md")
        (workspace(host) / "HEARTBEAT.md").write_text("reply 1 the-oven-is-on\n")
        os.utime(workspace(host) / "HEARTBEAT.md", (clock.now().timestamp(), clock.now().timestamp()))
        passes(host, clock, 0.51 * HOUR)
        rows = await ended(host, "heartbeat", 2)
        assert rows[-1]["state"] == "ok"
        assert "the-oven-is-on 1" in host.texts()
        session = await host.do("session.show", session=rows[-1]["session_id"])
        assert (session["kind"], session["status"]) == ("heartbeat", "active")
        turns = await host.central("SELECT count(*) AS n FROM turns")
        passes(host, clock, 0.51 * HOUR)
        rows = await ended(host, "heartbeat", 3)
        assert rows[-1]["state"] == "skipped"
        assert "nothing has happened" in rows[-1]["note"]
        assert await host.central("SELECT count(*) AS n FROM turns") == turns
        await host.ask("news")
        passes(host, clock, 0.51 * HOUR)
        rows = await ended(host, "heartbeat", 4)
        assert (rows[-1]["state"], rows[-1]["session_id"]) == ("ok", rows[1]["session_id"])
        prompts = [
            row["content"]
            for row in await host.central("SELECT content FROM ingest WHERE kind = 'task' ORDER BY position")
        ]
        assert "This is the first one." in prompts[0]
        assert "what you said has arrived" in prompts[1]
        await host.do("schedule.heartbeat", agent_group=AGENT, every="off")
        assert await host.do("schedule.list") == []


async def test_a_heartbeat_keeps_to_its_hours(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path / "data", clock=clock) as host:
        begin = clock.now() + timedelta(hours=5)
        hours = f"{begin:%H:%M}-{begin + timedelta(hours=2):%H:%M}"
        await host.do("schedule.heartbeat", agent_group=AGENT, every="30m", hours=hours, zone="UTC")
        passes(host, clock, HOUR)

        async def waits() -> bool:
            return str((await host.do("schedule.show", name="heartbeat"))["next_at"]).startswith(
                f"{begin:%Y-%m-%dT%H:%M}"
            )

        await until(waits, "it is due when its hours begin")
        assert await log(host, "heartbeat") == []
        with pytest.raises(InvalidValue):
            await host.do("schedule.heartbeat", agent_group=AGENT, every="30m", hours="morning")
