"""Schedules: what is to run by itself, and when it is due next.

`next_at` is stored in the transaction that starts the run before it, so that neither a crash nor a restart loses a run
or makes one twice. While `open_run` is set no other run of the schedule is started.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from host.central.database import Effect, Queryable, Transaction, one
from host.similar import did_you_mean
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, NotFound
from shared_schema.rows import Row

_COLUMNS = (
    "id", "agent_group_id", "name", "prompt", "check_script", "kind", "spec", "timezone", "status", "why", "next_at",
    "planned_at", "missed", "session_mode", "speaks_in", "channel_type", "platform_id", "thread_id", "urgent",
    "max_runs", "ends_at", "max_failures", "failures", "budget_usd", "budget_tokens", "created_by", "created_at",
    "purpose", "hours",
)  # fmt: skip
_CHANGEABLE = tuple(
    name for name in _COLUMNS if name not in ("id", "agent_group_id", "created_by", "created_at", "purpose")
)

INSERT = f"""
INSERT INTO schedules ({", ".join(_COLUMNS)}) VALUES ({", ".join(f":{name}" for name in _COLUMNS)})
ON CONFLICT (agent_group_id, name) DO NOTHING
"""
UPDATE = f"UPDATE schedules SET {', '.join(f'{name} = :{name}' for name in _CHANGEABLE)} WHERE id = :id"
BY_ID = "SELECT * FROM schedules WHERE id = ?"
NAMED = """
SELECT * FROM schedules WHERE (:agent_group_id IS NULL OR agent_group_id = :agent_group_id)
    AND (name = :name OR id = :name OR (length(:name) >= 5 AND substr(id, 1, length(:name)) = :name))
    AND status <> 'cancelled' ORDER BY position LIMIT 3
"""
NAMES = """
SELECT name FROM schedules WHERE (:agent_group_id IS NULL OR agent_group_id = :agent_group_id)
    AND status NOT IN ('done', 'cancelled') ORDER BY position DESC LIMIT 100
"""
LIST = """
SELECT s.*, a.name AS agent_group FROM schedules s JOIN agent_groups a ON a.id = s.agent_group_id
WHERE (:agent_group_id IS NULL OR s.agent_group_id = :agent_group_id)
    AND (:all = 1 OR s.status NOT IN ('done', 'cancelled'))
    AND (:channel_type IS NULL OR s.channel_type = :channel_type AND s.platform_id = :platform_id)
ORDER BY s.next_at IS NULL, s.next_at, s.position LIMIT :limit
"""
# The condition of the partial index stands here word for word, or SQLite does not take it.
DUE = """
SELECT * FROM schedules INDEXED BY schedules_due
WHERE status = 'active' AND open_run IS NULL AND next_at IS NOT NULL AND next_at <= ? ORDER BY next_at, position LIMIT ?
"""
NEXT_DUE = """
SELECT min(next_at) AS at FROM schedules INDEXED BY schedules_due
WHERE status = 'active' AND open_run IS NULL AND next_at IS NOT NULL
"""
PLANNED_AFTER = """
SELECT * FROM schedules WHERE status = 'active' AND kind <> 'once' AND planned_at > ? ORDER BY position
"""
PLANNED = "UPDATE schedules SET next_at = ?, planned_at = ? WHERE id = ?"
STARTED = "UPDATE schedules SET open_run = ?, runs = runs + 1 WHERE id = ?"
CLOSED = "UPDATE schedules SET open_run = NULL WHERE id = ? AND open_run = ?"
FAILURES = "UPDATE schedules SET failures = ? WHERE id = ?"
ENDED = "UPDATE schedules SET status = ?, why = ?, next_at = CASE ? WHEN 1 THEN next_at END WHERE id = ?"
TOLD_BUDGET = "UPDATE schedules SET budget_told = ? WHERE id = ? AND budget_told IS NOT ?"
COUNT_OF_AGENT = """
SELECT count(*) AS n FROM schedules
WHERE agent_group_id = ? AND created_by LIKE '@%' AND status IN ('active', 'paused', 'waiting')
"""
COUNTS = """
SELECT count(*) AS n, count(*) FILTER (WHERE status = 'active') AS active,
    count(*) FILTER (WHERE status = 'paused') AS paused, min(CASE status WHEN 'active' THEN next_at END) AS next_at
FROM schedules WHERE status IN ('active', 'paused', 'waiting')
"""
HAS_OPEN_RUN = """
SELECT 1 FROM schedules s JOIN schedule_runs r INDEXED BY schedule_runs_open ON r.schedule_id = s.id
WHERE s.agent_group_id = ? AND s.name = ? AND s.status IN ('done', 'cancelled')
    AND r.state IN ('running', 'delivering') LIMIT 1
"""
FREE_NAME = "DELETE FROM schedules WHERE agent_group_id = ? AND name = ? AND status IN ('done', 'cancelled')"
PAUSED = "SELECT since, by, where_from FROM schedules_paused"
PAUSE = "INSERT INTO schedules_paused (id, since, by, where_from) VALUES (1, ?, ?, ?) ON CONFLICT DO NOTHING"
RESUME = "DELETE FROM schedules_paused"
SEEN = "UPDATE schedules SET seen = ? WHERE id = ?"
HAS_NEW_MESSAGE = "SELECT 1 FROM ingest WHERE position > ? AND agent_group_id = ? AND kind = 'chat' LIMIT 1"
OVERDUE = """
SELECT * FROM schedules INDEXED BY schedules_due
WHERE status = 'active' AND open_run IS NULL AND next_at IS NOT NULL AND next_at <= ? AND kind <> 'once'
"""


@dataclass(frozen=True, slots=True)
class Schedule(Row):
    """One schedule. `missed`, `kind` and `session_mode` have the values of their enums in `host/schedules/`."""

    position: int
    id: str
    agent_group_id: str
    name: str
    prompt: str
    check_script: str | None
    kind: str
    spec: str
    timezone: str
    status: str
    why: str | None
    next_at: str | None
    planned_at: str | None
    open_run: str | None
    missed: str
    session_mode: str
    speaks_in: str
    channel_type: str | None
    platform_id: str | None
    thread_id: str | None
    urgent: int
    max_runs: int | None
    ends_at: str | None
    runs: int
    max_failures: int
    failures: int
    budget_usd: float | None
    budget_tokens: int | None
    budget_told: str | None
    created_by: str
    created_at: str
    purpose: str = "task"
    hours: str | None = None
    seen: int = 0

    @property
    def is_heartbeat(self) -> bool:
        """Whether it is the heartbeat of its agent group."""
        return self.purpose == "heartbeat"

    @property
    def is_over(self) -> bool:
        """Whether it will never run again by itself."""
        return self.status in ("done", "cancelled")


@dataclass(frozen=True, slots=True)
class SchedulesChanged(Effect):
    """When the next schedule is due must be found out anew."""


def insert(tx: Transaction, values: dict[str, Any]) -> Schedule:
    """Add a schedule; the name of one that is over is free. Raises `Conflict` for a name that is taken."""
    free_name(tx, values["agent_group_id"], values["name"])
    if not tx.execute(INSERT, values).rowcount:
        raise Conflict(
            f"there is a schedule '{values['name']}' already",
            hint=f"choose another name; `dumbwaiter schedule set {values['name']}` changes that one",
        )
    tx.add(SchedulesChanged())
    return get(tx, values["id"])


def require_over(connection: Queryable, agent_group_id: str, name: str) -> None:
    """Raise `Conflict` while the last run of a schedule of that name goes on, which is over itself.

    The run's row goes with its schedule's, and then nothing would end its session.
    """
    if one(connection, HAS_OPEN_RUN, (agent_group_id, name)) is not None:
        raise Conflict(
            f"the last run of an earlier schedule '{name}' still goes on",
            hint="choose another name, or wait until it is over",
        )


def free_name(tx: Transaction, agent_group_id: str, name: str) -> None:
    """Remove the schedule of that name that is over, if there is one. Raises `Conflict` while its last run goes on."""
    require_over(tx, agent_group_id, name)
    tx.execute(FREE_NAME, (agent_group_id, name))


def update(tx: Transaction, schedule: Schedule) -> None:
    """Store what can be changed of a schedule."""
    tx.execute(UPDATE, {name: getattr(schedule, name) for name in (*_CHANGEABLE, "id")})
    tx.add(SchedulesChanged())


def lookup(connection: Queryable, schedule_id: str) -> Schedule | None:
    """The schedule with that id, if there is one."""
    row = one(connection, BY_ID, (schedule_id,))
    return None if row is None else Schedule.from_row(row)


def get(connection: Queryable, schedule_id: str) -> Schedule:
    """The schedule with that id. Raises `NotFound`."""
    found = lookup(connection, schedule_id)
    if found is None:
        raise NotFound(f"there is no schedule {schedule_id}", hint="`dumbwaiter schedule list` shows all")
    return found


def named(connection: Queryable, name: str, agent_group_id: str | None = None) -> Schedule | None:
    """The schedule of that name, id or beginning of an id, if there is one. Raises `Conflict` where several are."""
    rows = connection.execute(NAMED, {"name": name, "agent_group_id": agent_group_id}).fetchall()
    exact = [row for row in rows if row["id"] == name] or rows
    if len(exact) > 1:
        raise Conflict(f"several schedules are called '{name[:80]}'", hint="name it by its id, or say `--agent-group`")
    return Schedule.from_row(exact[0]) if exact else None


def find(connection: Queryable, name: str, agent_group_id: str | None = None) -> Schedule:
    """The same, which there must be. Raises `NotFound`, too."""
    found = named(connection, name, agent_group_id)
    if found is None:
        names = [row["name"] for row in connection.execute(NAMES, {"agent_group_id": agent_group_id})]
        meant = did_you_mean(name[:80], names)
        raise NotFound(f"there is no schedule '{name[:80]}'{meant}", hint="`dumbwaiter schedule list` shows all")
    return found


def listed(
    connection: Queryable,
    *,
    agent_group_id: str | None = None,
    chat: tuple[str, str] | None = None,
    with_ended: bool = False,
    limit: int = 1000,
) -> list[sqlite3.Row]:
    """Schedules with the name of their agent group (`agent_group`), what is due first before the others."""
    channel_type, platform_id = chat or (None, None)
    values = {
        "agent_group_id": agent_group_id,
        "all": int(with_ended),
        "channel_type": channel_type,
        "platform_id": platform_id,
        "limit": limit,
    }
    return connection.execute(LIST, values).fetchall()


def due(connection: Queryable, now: str, limit: int) -> list[Schedule]:
    """Schedules whose time has come and of which no run goes on, in the order in which they are due."""
    return [Schedule.from_row(row) for row in connection.execute(DUE, (now, limit))]


def next_due(connection: Queryable) -> str | None:
    """When the next schedule is due."""
    row = one(connection, NEXT_DUE)
    return None if row is None else row["at"]


def overdue(connection: Queryable, now: str) -> list[Schedule]:
    """Recurring schedules whose time has come, all of them."""
    return [Schedule.from_row(row) for row in connection.execute(OVERDUE, (now,)).fetchall()]


def planned_after(connection: Queryable, now: str) -> list[Schedule]:
    """Recurring schedules that were planned at a time which is still to come: the clock was set back since."""
    return [Schedule.from_row(row) for row in connection.execute(PLANNED_AFTER, (now,)).fetchall()]


def plan(tx: Transaction, schedule_id: str, next_at: str | None, now: str) -> None:
    """Note when a schedule is due next."""
    tx.execute(PLANNED, (next_at, now, schedule_id))


def begin_run(tx: Transaction, schedule_id: str, run_id: str) -> None:
    """Note that a run goes on: no other one is started."""
    tx.execute(STARTED, (run_id, schedule_id))
    tx.add(SchedulesChanged())


def close_run(tx: Transaction, schedule_id: str, run_id: str) -> None:
    """Note that the agent is done with a run: another one may begin."""
    tx.execute(CLOSED, (schedule_id, run_id))


def count_failures(tx: Transaction, schedule_id: str, failures: int) -> None:
    """Note how many runs in a row have failed."""
    tx.execute(FAILURES, (failures, schedule_id))


def set_status(tx: Transaction, schedule_id: str, status: str, why: str | None, *, keep_next: bool = False) -> None:
    """Give a schedule another state, with the reason as a sentence."""
    tx.execute(ENDED, (status, why, int(keep_next), schedule_id))
    tx.add(SchedulesChanged())


def is_first_today(tx: Transaction, schedule_id: str, day: str) -> bool:
    """Whether its owner was not told yet on that day that its budget is used up; from now on they were."""
    return tx.execute(TOLD_BUDGET, (day, schedule_id, day)).rowcount > 0


def note_seen(tx: Transaction, schedule_id: str, position: int) -> None:
    """Note the last message that a heartbeat knew of."""
    tx.execute(SEEN, (position, schedule_id))


def has_new_message(connection: Queryable, schedule: Schedule) -> bool:
    """Whether a person has written to the agent group since its last heartbeat."""
    return one(connection, HAS_NEW_MESSAGE, (schedule.seen, schedule.agent_group_id)) is not None


def made_by_agent(connection: Queryable, agent_group_id: str) -> int:
    """How many schedules an agent group has made by itself that are not over."""
    row = one(connection, COUNT_OF_AGENT, (agent_group_id,))
    return 0 if row is None else int(row["n"])


def counts(connection: Queryable) -> dict[str, Any]:
    """`n, active, paused, next_at` of all that are not over."""
    row = one(connection, COUNTS)
    assert row is not None
    return dict(row)


def paused(connection: Queryable) -> dict[str, Any] | None:
    """Since when everything is paused, by whom and from where; None: it is not."""
    row = one(connection, PAUSED)
    return None if row is None else dict(row)


def pause_all(tx: Transaction, now: str, by: str, where_from: str) -> bool:
    """Pause everything that runs by itself. False when it is."""
    tx.add(SchedulesChanged())
    return tx.execute(PAUSE, (now, by, where_from)).rowcount > 0


def resume_all(tx: Transaction) -> bool:
    """Let it run again. False when it was not paused."""
    tx.add(SchedulesChanged())
    return tx.execute(RESUME).rowcount > 0
