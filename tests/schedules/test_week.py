"""A week of a simulated clock: one agent with a dozen schedules, a heartbeat, a broken one and a budget.

The log is exactly what the rules promise.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from host.central import agent_groups, deliveries, ingest, messaging_groups, schedule_runs, schedules
from host.central.agent_groups import new_agent_group
from host.central.database import Central
from host.central.messaging_groups import MessagingGroup
from host.schedules import making, runs
from host.schedules.heartbeat import HeartbeatFacts
from host.schedules.request import Wish
from shared_schema.clock import ManualClock, from_text, to_text
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address, MessageInStatus, MessageOutKind
from tests.support.registry import open_central
from tests.support.transaction import at

MONDAY = datetime(2026, 3, 23, 0, 0, 1, tzinfo=UTC)
"""The week of the change to summer time in Berlin: on its Sunday the clocks skip 02:00 to 03:00."""
CHAT = Address("memory", "one")
TOKENS = 100  # of each run


class Week:
    """A host of nothing but its schedules. Its agent answers at once, as the prompt says."""

    def __init__(self, central: Central, clock: ManualClock) -> None:
        self.clock = clock
        self._central = central
        self.told = 0

    def write(self, run: object) -> object:
        return self._central.submit(run).result()  # type: ignore[arg-type]

    def until(self, end: datetime) -> None:
        """Let time pass from one due time to the next."""
        while (at := self._central.read_here(schedules.next_due)) is not None and from_text(at) <= end:
            self.clock.advance(max(0.0, (from_text(at) - self.clock.now()).total_seconds()))
            self.step()
        self.clock.advance((end - self.clock.now()).total_seconds())

    def step(self) -> None:
        """What the timer does at a due time, and what the agent answers."""
        now = self.clock.now()
        beats = {
            each.id: HeartbeatFacts("- mail")
            for each in self._central.read_here(schedules.due, to_text(now), runs.AT_ONCE)
            if each.is_heartbeat
        }

        def work(connection: sqlite3.Connection) -> None:
            runs.start_due(connection, now, beats)
            _answer(connection, to_text(now))
            runs.close_ended(connection, now)

        self.write(work)

    def sleeps(self, seconds: float) -> None:
        """The host is down for so long."""
        self.clock.advance(seconds)
        while (at := self._central.read_here(schedules.next_due)) is not None and from_text(at) <= self.clock.now():
            self.step()

    def states(self, name: str) -> dict[str, int]:
        """How many runs of a schedule came to what."""
        rows = self._central.read_here(lambda c: schedule_runs.log(c, schedules.find(c, name).id, None, 10_000))
        return dict(Counter(row["state"] for row in rows))

    def due(self, name: str) -> list[str]:
        """The due times of what ran, oldest first."""
        rows = self._central.read_here(lambda c: schedule_runs.log(c, schedules.find(c, name).id, None, 10_000))
        return [row["due_at"] for row in rows if row["session_id"]][::-1]


def _answer(connection: sqlite3.Connection, stamp: str) -> None:
    """The agent answers what waits: `fail …` fails, `silent` says nothing, all else is said and arrives."""
    for row in connection.execute("SELECT * FROM ingest WHERE status = 'pending' AND kind = 'task'").fetchall():
        message = ingest.AcceptedMessage.from_row(row)
        session_id, text = str(message.session_id), ingest.text_of(message)
        turn_id = new_id(Prefix.TURN)
        status = MessageInStatus.FAILED if text.startswith("fail") else MessageInStatus.COMPLETED
        error = "the oven is cold" if text.startswith("fail") else None
        ingest.finish(at(connection, stamp), session_id, message.message_id, status, error=error, turn_id=turn_id)
        connection.execute(
            "INSERT INTO usage (turn_id, session_id, agent_group_id, agent_group, finished_at, input_tokens)"
            " VALUES (?, ?, ?, 'assistant', ?, ?)",
            (turn_id, session_id, message.agent_group_id, stamp, TOKENS),
        )
        if status == MessageInStatus.COMPLETED:
            deliveries.add(
                connection,
                message_out_id=new_id(Prefix.MESSAGE),
                session_id=session_id,
                kind=MessageOutKind.CHAT,
                channel_type=message.channel_type,
                platform_id=message.platform_id,
                thread_id=None,
                content='{"text": "done"}',
                created_at=stamp,
                in_reply_to=message.message_id,
                status="suppressed" if text.startswith("silent") else "delivered",
            )


@pytest.fixture
def week(tmp_path: Path) -> Iterator[Week]:
    """One agent at the beginning of the week."""
    clock = ManualClock(MONDAY)
    central = open_central(tmp_path / "central.db", clock)
    found = Week(central, clock)

    def begin(connection: sqlite3.Connection) -> None:
        group = new_agent_group("assistant", created_at=to_text(MONDAY), provider="echo")
        agent_groups.insert(connection, group)
        chat = MessagingGroup(new_id(Prefix.MESSAGING_GROUP), "memory", "one", None, 1, to_text(MONDAY))
        messaging_groups.insert(connection, chat)
        for name, when, more in (
            ("hourly", "every 1h", {}),
            ("skipper", "every 1h", {"missed": "skip"}),
            ("all", "every 1h", {"missed": "all"}),
            ("two-hourly", "every 2h", {}),
            ("daily", "every day at 08:00", {}),
            ("night", "30 2 * * *", {}),
            ("weekday", "every weekday at 09:00", {}),
            ("sunday", "every sunday at 10:00", {}),
            ("ten-times", "*/30 * * * *", {"max_runs": 10}),
            ("three-days", "every 6h", {"ends": "in 3d"}),
            ("once", "2026-03-25 18:00", {}),
            ("dear", "every 1h", {"budget_tokens": 2 * TOKENS}),
        ):
            _add(connection, Wish(when=when, prompt=f"do {name}", name=name, zone="Europe/Berlin", **more))
        _add(connection, Wish(when="every 1h", prompt="fail", name="broken", zone="Europe/Berlin"))
        _add(connection, Wish(when="every 1d", prompt="silent", name="quiet", zone="Europe/Berlin"))
        making.set_heartbeat(
            connection, agent_groups.get_by_name(connection, "assistant"), "30m", active_hours="08:00-22:00",
            wish=Wish(zone="Europe/Berlin"), origin=CHAT, by="cli:terminal", setting_zone="UTC", now=MONDAY,
        )  # fmt: skip

    found.write(begin)
    yield found
    central.close()


def _add(connection: sqlite3.Connection, wish: Wish) -> None:
    group = agent_groups.get_by_name(connection, "assistant")
    making.make(connection, group, wish, origin=CHAT, by="cli:terminal", setting_zone="UTC", now=MONDAY)


def test_a_week_gives_the_log_that_its_rules_promise(week: Week) -> None:
    wednesday = MONDAY + timedelta(days=2, hours=10, minutes=30)
    week.until(wednesday)
    week.sleeps(24 * 3600)  # the host is down for a day
    week.until(MONDAY + timedelta(days=7))

    # 168 hours, of which 24 due times passed while it was down.
    assert week.states("hourly") == {"ok": 168 - 24 + 1}  # one run made up for them
    assert week.states("skipper") == {"ok": 168 - 24, "missed": 1}  # the last of them half an hour late: none did
    assert week.states("all") == {"ok": 168}
    assert week.states("two-hourly") == {"ok": 84 - 12 + 1}
    # Wednesday's was on time, Thursday's made up for at half past ten UTC.
    assert [each[:16] for each in week.due("daily")] == [
        f"2026-03-{day}T0{7 if day < 29 else 6}:00" for day in range(23, 30)
    ]
    # At 02:30 in winter and, where the clocks skip that, at 03:00; the last one on the Monday after.
    assert [each[5:16] for each in week.due("night")] == [
        *(f"03-{day}T01:30" for day in range(23, 29)), "03-29T01:00",
    ]  # fmt: skip
    assert week.states("weekday") == {"ok": 5}
    assert [each[:16] for each in week.due("sunday")] == ["2026-03-29T08:00"]
    assert week.states("ten-times") == {"ok": 10}
    assert week.states("three-days") == {"ok": 9 + 1}  # its last three times passed while it was down
    assert week.states("once") == {"ok": 1}  # made up for
    assert week.states("quiet") == {"silent": 7}
    # Three failures pause it, and nothing of it runs afterwards.
    assert week.states("broken") == {"failed": 3}
    for name in ("hourly", "all", "daily", "ten-times"):
        due = week.due(name)
        assert due == sorted(set(due))
    assert week.due("three-days")[-1] == to_text(MONDAY + timedelta(days=3))


def test_a_budget_holds_every_day_its_owner_is_told_once_on_each_and_a_heartbeat_rests(week: Week) -> None:
    week.until(MONDAY + timedelta(days=7))

    states = week.states("dear")
    assert states["ok"] == 2 * 7 + 1  # of Monday 00:00:01 the last one is of the next day
    assert states["ok"] + states["skipped"] == 168
    said = week._central.read_here(lambda c: c.execute("SELECT key FROM host_messages ORDER BY position").fetchall())
    budget = [row["key"] for row in said if "/budget-" in row["key"]]
    assert len(budget) == len(set(budget)) == 7
    assert sum("/paused-" in row["key"] for row in said) == 1  # the broken one

    states = week.states("heartbeat")
    assert states["ok"] == 1  # the first one
    assert states["skipped"] == 7 * 28 - 1  # 08:00 to 22:00, every half hour
