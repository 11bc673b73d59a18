"""Schedules in a real host: what is due runs, what it says arrives, and the log says all of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from host.central import schedules
from host.schedules.runs import start_due
from shared_schema.clock import to_text
from shared_schema.errors import Conflict, InvalidValue, NotFound
from tests.access.people import OWNER, OWNERS_CHAT, owner
from tests.support.clocks import JumpingClock
from tests.support.host import AGENT, Host, running
from tests.support.ledger import refusing
from tests.support.wait import until

HOUR, DAY = 3_600.0, 86_400.0


async def add(host: Host, prompt: str, when: str = "every 1h", **rules: Any) -> dict[str, Any]:
    """A schedule of the only agent, which speaks in its only chat."""
    made: dict[str, Any] = await host.do("schedule.add", agent_group=AGENT, when=when, prompt=prompt, **rules)
    return made


async def log(host: Host, name: str | None = None) -> list[dict[str, Any]]:
    """The runs, oldest first."""
    found: list[dict[str, Any]] = await host.do("schedule.log", name=name)
    return found[::-1]


async def ended(host: Host, name: str, count: int = 1) -> list[dict[str, Any]]:
    """The runs of a schedule, once so many are over."""

    async def are_over() -> list[dict[str, Any]]:
        rows = await log(host, name)
        over = [row for row in rows if row["finished_at"] is not None]
        return rows if len(over) >= count else []

    return await until(are_over, f"{count} runs of {name} are over", 60)


def passes(host: Host, clock: JumpingClock, seconds: float) -> None:
    """So much time passes at once, as if the machine had slept."""
    clock.jump(seconds)
    host.services.dispatcher.schedules_changed.set()


async def test_a_run_has_a_session_of_its_own_and_says_what_it_came_to(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        made = await add(host, "good morning", "in 1s", name="morning")
        assert made["when"].startswith("once, ")
        (run,) = await ended(host, "morning")
        assert host.texts() == ["scripted: good morning"]
        assert (run["state"], run["delivery"], run["cause"]) == ("ok", "delivered", "due")
        session = await host.do("session.show", session=run["session_id"])
        assert (session["kind"], session["status"]) == ("schedule", "ended")
        assert (await host.do("schedule.list")) == []
        (over,) = await host.do("schedule.list", all=True)
        assert (over["status"], over["why"], over["next"]) == ("done", "its time has come", None)


async def test_what_it_says_is_known_in_the_chat_where_it_arrives_and_an_answer_reaches_that_session(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "data") as host:
        await host.ask("hello")
        await add(host, "reply 1 shall-I", "in 1s", name="asks")
        await ended(host, "asks")
        await host.channel.wait_for(2)
        await host.ask("yes, please")
        (chat,) = [each for each in await host.do("session.list") if each["kind"] == "chat"]
        said = [entry["text"] for entry in await host.do("session.transcript", session=chat["id"])]
        assert said[-3:] == ["shall-I 1", "yes, please", "scripted: yes, please"]


async def test_a_run_in_the_chats_own_session_goes_on_from_there(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await host.ask("hello")
        await add(host, "recall", "in 1s", name="there", session="chat")
        (run,) = await ended(host, "there")
        assert "hello" in host.texts()[-1]
        assert (await host.do("session.show", session=run["session_id"]))["status"] == "active"


async def test_silence_sends_nothing_and_stays_in_the_log(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await add(host, "reply 0\nwrite 0 [SILENT]", name="silent")
        await host.do("schedule.run", name="silent")
        (run,) = await ended(host, "silent")
        assert (run["state"], run["cause"]) == ("silent", "by hand")
        assert host.texts() == []


async def test_where_it_speaks_is_a_chat_a_destination_a_home_or_nowhere(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        for name in ("two", "three"):
            await host.do("messaging_group.add", address=f"memory:{name}", is_group=True)
        await host.do("destination.add", agent_group=AGENT, name="ops", messaging_group="memory:two")
        await host.do("home.set", agent_group=AGENT, messaging_group="memory:three")
        for to in ("memory:two", "ops", "home", "nowhere"):
            name = to.replace(":", "-")
            await add(host, f"to-{name}", name=name, to=to)
            await host.do("schedule.run", name=name)
            await ended(host, name)
        sent = [(message.address.platform_id, message.text) for message in host.channel.sent]
        assert sent == [
            ("two", "scripted: to-memory-two"), ("two", "scripted: to-ops"), ("three", "scripted: to-home"),
        ]  # fmt: skip
        assert [row["state"] for row in await log(host)] == ["ok", "ok", "ok", "silent"]
        with pytest.raises(NotFound, match="destinations or homes"):
            await add(host, "x", to="elsewhere")


async def test_three_failures_in_a_row_pause_it_and_its_owner_is_told_once(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await owner(host)
        await add(host, "fail the oven is cold", name="bake")
        await host.services.central.write(lambda c: c.execute("UPDATE schedules SET created_by = ?", (OWNER,)))
        for count in (1, 2, 3):
            await host.do("schedule.run", name="bake")
            await ended(host, "bake", count)
        shown = await host.do("schedule.show", name="bake")
        assert (shown["status"], shown["failures"]) == ("paused", 3)
        assert "the oven is cold" in shown["why"]
        await until(lambda: host.channel.sent, "the owner is told")
        (told,) = host.channel.sent
        assert told.address.platform_id == OWNERS_CHAT
        assert "is paused, because it has failed 3 times in a row: the oven is cold" in told.text
        after = await host.do("schedule.resume", name="bake")
        assert (after["status"], after["failures"]) == ("active", 0)


async def test_a_run_whose_delivery_failed_is_not_ok(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        host.channel.refuses = lambda message: "the chat is closed"
        await add(host, "hello", name="shut")
        await host.do("schedule.run", name="shut")
        (run,) = await ended(host, "shut")
        assert run["state"] == "undelivered"
        assert "the chat is closed" in run["note"]
        assert (await host.do("schedule.show", name="shut"))["failures"] == 1


async def test_status_and_usage_say_what_acts_by_itself_and_what_that_has_used_in_a_week(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await owner(host)
        await add(host, "use 500", name="dear")
        await host.ask("use 50\nreply 1 done", message_id="by-a-person")
        await host.do("schedule.run", name="dear")
        await ended(host, "dear")
        for operation in ("status", "usage"):
            acting = (await host.do(operation))["schedules"]
            assert (acting["active"], acting["paused"], acting["week_tokens"]) == (1, None, 1000), operation
            assert [(row["schedule"], row["runs"], row["tokens"]) for row in acting["week"]] == [("dear", 1, 1000)]
        long_ago = to_text(host.services.clock.now() - timedelta(days=8))
        await host.services.central.write(lambda c: c.execute("UPDATE schedule_runs SET started_at = ?", (long_ago,)))
        acting = (await host.do("usage"))["schedules"]
        assert (acting["week_tokens"], [row["runs"] for row in acting["week"]]) == (0, [0])


async def test_the_budget_of_a_schedule_and_that_of_its_agent_are_asked_before_each_run(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path / "data", clock=clock) as host:
        await owner(host)
        await add(host, "use 500", name="dear", budget_tokens=900)
        await host.do("schedule.run", name="dear")
        (first,) = await ended(host, "dear")
        assert first["tokens"] == 1000
        with pytest.raises(Conflict, match="budget of 'dear' for today is used up: 1,000 of 900 tokens"):
            await host.do("schedule.run", name="dear")
        await host.services.central.write(
            lambda c: c.execute("UPDATE schedules SET next_at = ?", (to_text(clock.now()),))
        )
        host.services.dispatcher.schedules_changed.set()
        rows = await ended(host, "dear", 2)
        assert rows[-1]["state"] == "skipped"
        assert (await host.do("schedule.show", name="dear"))["status"] == "active"
        await host.do("agent_group.set", name=AGENT, budget_tokens=10, budget_period="total")
        await add(host, "hello", name="cheap")
        with pytest.raises(Conflict, match=f"budget of {AGENT} is used up"):
            await host.do("schedule.run", name="cheap")


async def test_everything_is_paused_by_one_command_and_what_was_due_meanwhile_is_not_made_up_for(
    tmp_path: Path,
) -> None:
    clock = JumpingClock()
    async with running(tmp_path / "data", clock=clock) as host:
        await add(host, "hello", name="hourly")
        assert (await host.do("schedule.pause_all"))["paused"]["by"] == "cli:terminal"
        passes(host, clock, 5 * HOUR)
        assert (await host.do("status"))["schedules"]["paused"] is not None
        acting = await host.do("schedule.resume_all")
        assert acting["paused"] is None
        assert acting["next_at"] > to_text(clock.now())
        passes(host, clock, HOUR)
        (run,) = await ended(host, "hourly")
        assert run["state"] == "ok"


@pytest.mark.parametrize(("rule", "states"), [("skip", ["missed"]), ("once", ["ok"]), ("all", ["ok"] * 3)])
async def test_a_machine_that_slept_makes_up_for_what_the_rule_says(
    rule: str, states: list[str], tmp_path: Path
) -> None:
    clock = JumpingClock()
    async with running(tmp_path / "data", clock=clock) as host:
        await add(host, "hello", name="hourly", missed=rule)
        passes(host, clock, 3 * HOUR + 600)
        rows = await ended(host, "hourly", len(states))
        assert [row["state"] for row in rows] == states
        if rule == "skip":
            assert "3 due times" in rows[0]["note"]
        if rule == "once":
            assert "2 due times" in rows[0]["note"]
        due = [row["due_at"] for row in rows]
        assert due == sorted(set(due))
        assert (await host.do("schedule.show", name="hourly"))["next_at"] > to_text(clock.now())


async def test_a_clock_that_is_set_back_a_day_does_not_stop_what_recurs(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path / "data", clock=clock) as host:
        await add(host, "hello", name="hourly")
        await add(host, "morning", "every day at 08:00", name="daily", zone="UTC")
        passes(host, clock, -DAY)
        rows = await ended(host, "hourly")
        assert "the clock was set back by about 1 day" in rows[0]["note"]
        now = clock.now()
        for name, most in (("hourly", timedelta(hours=1)), ("daily", timedelta(days=1))):
            shown = await host.do("schedule.show", name=name)
            assert to_text(now) < shown["next_at"] <= to_text(now + most + timedelta(seconds=30))
        passes(host, clock, HOUR + 60)
        rows = await ended(host, "hourly", 2)
        assert rows[-1]["state"] == "ok"


async def test_there_are_never_two_runs_of_one_schedule_at_once(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await add(host, "think 2.5", "every 1s", name="slow", max_runs=2)
        await until(lambda: host.services.supervisor.agents, "the first one runs", 30)
        with pytest.raises(Conflict, match="runs already"):
            await host.do("schedule.run", name="slow")
        rows = await ended(host, "slow", 2)
        assert [row["state"] for row in rows] == ["ok", "ok"]
        assert rows[0]["finished_at"] <= rows[1]["started_at"]
        shown = await host.do("schedule.show", name="slow")
        assert (shown["status"], shown["why"], shown["runs"]) == ("done", "it has run 2 times", 2)


async def test_it_ends_at_its_time(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path / "data", clock=clock) as host:
        await add(host, "hello", name="short", ends="in 90m")
        passes(host, clock, HOUR + 1)
        await ended(host, "short")
        (over,) = await host.do("schedule.list", all=True)
        assert over["status"] == "done"
        with pytest.raises(InvalidValue, match="it ends before its first time"):
            await add(host, "hello", ends="in 30m")


async def test_a_schedule_that_is_changed_is_planned_anew(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        made = await add(host, "hello", "every day at 08:00", name="daily", zone="UTC")
        later = await host.do("schedule.set", name="daily", zone="America/New_York")
        assert later["next_at"] != made["next_at"]
        assert later["next"].endswith("08:00 America/New_York")
        assert (await host.do("schedule.set", name="daily", when="in 1h", new_name="soon"))["name"] == "soon"
        await host.do("schedule.cancel", name="soon")
        with pytest.raises(NotFound):
            await host.do("schedule.show", name="soon")
        assert (await add(host, "hello", name="soon"))["status"] == "active"
        for wrong in ({"zone": "Mars/Base"}, {"missed": "never"}, {"when": "soon"}, {"max_runs": 0}, {"prompt": " "}):
            with pytest.raises(InvalidValue):
                await host.do("schedule.set", name="soon", **wrong)


async def test_ten_thousand_schedules_cost_one_step_into_an_index(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await add(host, "hello", "every day at 08:00", name="one")

        def many(connection: Any) -> None:
            columns = ", ".join(
                row["name"]
                for row in connection.execute("SELECT name FROM pragma_table_info('schedules')")
                if row["name"] not in ("id", "name", "position")
            )
            connection.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) "
                f"INSERT INTO schedules (id, name, {columns}) "
                f"SELECT 'sch_' || i, 'many-' || i, {columns} FROM n, schedules"
            )

        await host.services.central.write(many)

        plans = await host.central(f"EXPLAIN QUERY PLAN {schedules.NEXT_DUE}")
        plans += await host.central(f"EXPLAIN QUERY PLAN {schedules.DUE}", to_text(datetime.now(UTC)), 50)
        assert {row["detail"].split(" (")[0] for row in plans} <= {
            "SEARCH schedules USING COVERING INDEX schedules_due", "SEARCH schedules USING INDEX schedules_due",
        }  # fmt: skip


async def test_a_schedule_the_host_fails_over_is_paused_and_holds_up_no_other(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running(tmp_path / "data", clock=clock) as host:
        await add(host, "hello", name="broken")
        await add(host, "hello", name="whole")
        await host.services.central.write(
            lambda c: c.execute("UPDATE schedules SET kind = 'cron', spec = 'nonsense' WHERE name = 'broken'")
        )
        passes(host, clock, HOUR)
        (run,) = await ended(host, "whole")
        assert run["state"] == "ok"
        assert [row["state"] for row in await log(host, "broken")] == ["failed"]
        assert (await host.central("SELECT status FROM schedules WHERE name = 'broken'"))[0]["status"] == "paused"


async def test_a_check_script_decides_whether_the_model_is_asked_and_its_output_is_the_prompt(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        for name, script, state, said in (
            ("some", "echo there is mail", "ok", ["scripted: Sum up:", "scripted: ", "scripted: there is mail"]),
            ("none", "true", "silent", []),
            (
                "python",
                "#!/usr/bin/env python3\nprint(6 * 7)",
                "ok",
                ["scripted: Sum up:", "scripted: ", "scripted: 42"],
            ),
            ("broken", "echo no such box; exit 3", "failed", []),
        ):
            before = len(host.texts())
            await add(host, "Sum up:", name=name, check=script)
            await host.do("schedule.run", name=name)
            (run,) = await ended(host, name)
            assert (name, run["state"]) == (name, state)
            assert host.texts()[before:] == said
            if name == "none":
                assert run["note"] == "its check found nothing to do"
            if name == "broken":
                assert run["note"] == "the check script ended with status 3: no such box"


async def test_a_run_that_a_person_stops_is_cancelled_and_no_failure(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await add(host, "think 60", name="long")
        begun = await host.do("schedule.run", name="long")
        await until(lambda: host.services.supervisor.agents, "it runs", 30)
        await host.do("session.stop", session=begun["session_id"])
        (run,) = await ended(host, "long")
        assert (run["state"], run["note"]) == ("cancelled", "it was stopped")
        assert (await host.do("schedule.show", name="long"))["failures"] == 0


async def test_the_name_of_a_schedule_is_free_once_its_last_run_is_over(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await add(host, "think 60", "in 1s", name="once")
        await until(lambda: host.services.supervisor.agents, "it runs", 30)
        with pytest.raises(Conflict, match="still goes on"):
            await add(host, "hello", name="once")
        other = await add(host, "hello", name="other")
        with pytest.raises(Conflict, match="still goes on"):
            await host.do("schedule.set", name="other", new_name="once")
        (run,) = await log(host, "once")
        await host.do("session.stop", session=run["session_id"])
        await ended(host, "once")
        await host.do("schedule.set", name="other", new_name="once")
        assert [each["id"] for each in await host.do("schedule.list", all=True)] == [other["id"]]
        assert (await host.do("session.show", session=run["session_id"]))["status"] == "ended"


async def test_an_end_that_cannot_be_taken_down_is_tried_again_though_nothing_else_happens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path / "data") as host:
        await add(host, "write 0 [SILENT]", name="silent")
        with refusing(host.services.settings.layout.central, "UPDATE ON schedule_runs"):
            await host.do("schedule.run", name="silent")

            async def is_answered() -> bool:
                (row,) = await host.central("SELECT status FROM ingest")
                return str(row["status"]) == "completed"

            await until(is_answered, "its agent is done", 30)
            await host.settled()  # all else that follows from that
            before = len(caplog.records)
            failed = "a step of the schedules failed"
            await until(lambda: failed in [r.message for r in caplog.records[before:]], "it cannot be taken down", 30)
        (run,) = await ended(host, "silent")
        assert run["state"] == "silent"


async def test_a_run_whose_end_the_host_fails_over_holds_up_no_other(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await add(host, "think 60", name="bad")
        bad = await host.do("schedule.run", name="bad")
        of_bad = f"NEW.id = '{bad['session_id']}' AND NEW.status = 'ended'"
        with refusing(host.services.settings.layout.central, "UPDATE ON sessions", of_bad):
            await until(lambda: host.services.supervisor.agents, "it runs", 30)
            await host.do("session.stop", session=bad["session_id"])
            await add(host, "hello", name="good")
            await host.do("schedule.run", name="good")
            (good,) = await ended(host, "good")
            (run,) = await ended(host, "bad")
    assert good["state"] == "ok"
    assert (run["state"], run["note"]) == ("failed", "the host failed over its end: IntegrityError")


async def test_a_schedule_that_the_ledger_refuses_to_begin_holds_up_no_other(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        bad = await add(host, "hello", "in 1s", name="bad")
        of_bad = f"NEW.schedule_id = '{bad['id']}' AND NEW.state = 'running'"
        with refusing(host.services.settings.layout.central, "INSERT ON schedule_runs", of_bad):
            await add(host, "good morning", "in 1s", name="good")
            (good,) = await ended(host, "good")
    assert good["state"] == "ok"


async def test_what_was_begun_and_what_is_due_survives_the_host(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running(data) as host:
        await add(host, "hello", name="hourly")
        await add(host, "there", name="begun")
        # As a host that was killed between storing a run and starting its agent: nothing has followed from it.
        services = host.services
        stamp = to_text(services.clock.now())
        await services.central.write(
            lambda c: c.execute("UPDATE schedules SET next_at = ? WHERE name = 'begun'", (stamp,))
        )
        services.central.dispatch = lambda effects: None
        await services.central.write(start_due, services.clock.now())
        assert [row["state"] for row in await log(host)] == ["running"]
    clock = JumpingClock()
    clock.jump(3 * HOUR)
    async with running(data, clock=clock) as host:
        (missed,) = await ended(host, "hourly")
        assert (missed["state"], missed["note"][:12]) == ("ok", "2 due times ")
        rows = await ended(host, "begun", 2)
        assert [row["state"] for row in rows] == ["ok", "ok"]
        assert sorted(host.texts()) == ["scripted: hello", "scripted: there", "scripted: there"]
