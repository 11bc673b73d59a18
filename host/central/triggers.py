"""Triggers: events from outside that start a run. Each is a schedule without a time of its own, and stands in its log.

An event makes its schedule due after a while without further ones (`debounce`), so that many become one run; they wait
here until it begins. The same event counts once, by its key.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from host.central.database import Queryable, Transaction, one
from host.central.schedules import SchedulesChanged
from shared_schema.clock import from_text, to_text
from shared_schema.dataclass import dataclass
from shared_schema.rows import Row

INSERT = """
INSERT INTO triggers (schedule_id, source, place, pattern, debounce, per_hour) VALUES (?, ?, ?, ?, ?, ?)
"""
OF_SCHEDULE = "SELECT * FROM triggers WHERE schedule_id = ?"
OF_FILES = """
SELECT t.*, s.agent_group_id FROM triggers t JOIN schedules s ON s.id = t.schedule_id
WHERE t.source = 'file' AND s.status = 'active'
"""
OF_MESSAGES = """
SELECT t.* FROM triggers t INDEXED BY triggers_by_place JOIN schedules s ON s.id = t.schedule_id
WHERE t.source = 'message' AND t.place IN (:channel, :chat) AND s.status = 'active'
"""
OF_NOTIFICATIONS = """
SELECT t.* FROM triggers t INDEXED BY triggers_by_place JOIN schedules s ON s.id = t.schedule_id
WHERE t.source = 'mcp' AND t.place = :server AND s.agent_group_id = :agent_group_id AND s.status = 'active'
"""
ADD_EVENT = """
INSERT INTO trigger_events (schedule_id, key, at, text, state)
VALUES (:schedule_id, :key, :now, :text, CASE WHEN (
    SELECT count(*) FROM (SELECT 1 FROM trigger_events INDEXED BY trigger_events_waiting
        WHERE schedule_id = :schedule_id AND state = 'waiting' LIMIT :most)) >= :most THEN 'dropped' ELSE :state END)
ON CONFLICT DO NOTHING RETURNING state
"""
FIRST_WAITING = """
SELECT min(at) AS at FROM trigger_events INDEXED BY trigger_events_waiting
WHERE schedule_id = ? AND state = 'waiting'
"""
MAKE_DUE = "UPDATE schedules SET next_at = ?, planned_at = ? WHERE id = ? AND status = 'active'"
WAITING = """
SELECT * FROM trigger_events INDEXED BY trigger_events_waiting
WHERE schedule_id = ? AND state = 'waiting' ORDER BY position LIMIT ?
"""
TAKEN = "UPDATE trigger_events SET state = 'taken', text = '' WHERE position = ?"
RUNS_SINCE = """
SELECT count(*) AS n FROM schedule_runs INDEXED BY schedule_runs_by_time
WHERE started_at >= ? AND schedule_id = ? AND session_id IS NOT NULL
"""
KNOWN = "SELECT key FROM trigger_events WHERE schedule_id = ?"
FORGET = """
DELETE FROM trigger_events WHERE schedule_id = :schedule_id AND state <> 'waiting' AND position <= (
    SELECT position FROM trigger_events WHERE schedule_id = :schedule_id ORDER BY position DESC LIMIT 1 OFFSET :kept)
"""

MOST_WAITING = 100
"""Events that wait for one run; what comes on top is dropped."""
KEPT = 10_000
"""Events of one trigger that are known again."""
LONGEST_DEBOUNCE = 10
"""Events that never cease begin a run after so many times the debounce."""


@dataclass(frozen=True, slots=True)
class Trigger(Row):
    """What starts a run of a schedule. `pattern` None: every file, every message."""

    schedule_id: str
    source: str
    place: str
    pattern: str | None
    debounce: int
    per_hour: int

    @property
    def in_words(self) -> str:
        """When that is."""
        what = f" that fits '{self.pattern}'" if self.pattern is not None else ""
        if self.source == "mcp":
            return f"when a notification{what} comes from the MCP server {self.place}"
        return f"when a {self.source}{what} {'appears in' if self.source == 'file' else 'comes on'} {self.place}"


def insert(tx: Transaction, trigger: Trigger) -> None:
    """Add a trigger to its schedule."""
    values = (trigger.schedule_id, trigger.source, trigger.place, trigger.pattern, trigger.debounce, trigger.per_hour)
    tx.execute(INSERT, values)


def of_schedule(connection: Queryable, schedule_id: str) -> Trigger | None:
    """The trigger of a schedule, if it has one."""
    row = one(connection, OF_SCHEDULE, (schedule_id,))
    return None if row is None else Trigger.from_row(row)


def of_files(connection: Queryable) -> list[tuple[Trigger, str]]:
    """Triggers that watch folders, each with the id of its agent group."""
    return [(Trigger.from_row(row), row["agent_group_id"]) for row in connection.execute(OF_FILES)]


def of_messages(connection: Queryable, channel: str, platform_id: str) -> list[Trigger]:
    """Triggers for messages of a channel, or of one of its chats."""
    rows = connection.execute(OF_MESSAGES, {"channel": channel, "chat": f"{channel}:{platform_id}"})
    return [Trigger.from_row(row) for row in rows]


def of_notifications(connection: Queryable, agent_group_id: str, server: str) -> list[Trigger]:
    """Triggers for what an MCP server of an agent group notifies of."""
    rows = connection.execute(OF_NOTIFICATIONS, {"server": server, "agent_group_id": agent_group_id})
    return [Trigger.from_row(row) for row in rows]


def offer(tx: Transaction, trigger: Trigger, key: str, text: str, now: datetime, *, is_known: bool = False) -> bool:
    """Take an event; whether it is new. `is_known`: it was there before the trigger, and starts nothing."""
    stamp = to_text(now)
    values = {"schedule_id": trigger.schedule_id, "key": key, "now": stamp, "text": text, "most": MOST_WAITING}
    row = one(tx, ADD_EVENT, values | {"state": "taken" if is_known else "waiting"})
    if row is None:
        return False
    tx.execute(FORGET, {"schedule_id": trigger.schedule_id, "kept": KEPT})
    if row["state"] == "waiting":
        _make_due(tx, trigger, now)
    return True


def take(tx: Transaction, trigger: Trigger, limit: int, now: datetime) -> list[str]:
    """The texts of what waits, at most so many, for a run that begins now. The rest makes the schedule due again."""
    rows = tx.execute(WAITING, (trigger.schedule_id, limit + 1)).fetchall()
    for row in rows[:limit]:
        tx.execute(TAKEN, (row["position"],))
    if len(rows) > limit:
        tx.execute(MAKE_DUE, (to_text(now), to_text(now), trigger.schedule_id))
    return [row["text"] for row in rows[:limit]]


def is_any_waiting(connection: Queryable, schedule_id: str) -> bool:
    """Whether an event waits for a run."""
    return bool(connection.execute(WAITING, (schedule_id, 1)).fetchall())


def runs_since(connection: Queryable, schedule_id: str, moment: str) -> int:
    """How many runs of a schedule have begun since then."""
    row = one(connection, RUNS_SINCE, (moment, schedule_id))
    return 0 if row is None else int(row["n"])


def known(connection: Queryable, schedule_id: str) -> frozenset[str]:
    """The keys of the events that were taken before."""
    return frozenset(row["key"] for row in connection.execute(KNOWN, (schedule_id,)))


def _make_due(tx: Transaction, trigger: Trigger, now: datetime) -> None:
    """A while after this event, and not much later than after the first one that waits."""
    row = one(tx, FIRST_WAITING, (trigger.schedule_id,))
    first = now if row is None or row["at"] is None else from_text(row["at"])
    due = min(now + timedelta(seconds=trigger.debounce), first + timedelta(seconds=LONGEST_DEBOUNCE * trigger.debounce))
    tx.execute(MAKE_DUE, (to_text(due), to_text(now), trigger.schedule_id))
    tx.add(SchedulesChanged())
