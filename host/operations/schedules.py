"""What a person can do about schedules, and the timer that runs them."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from host.access.standing import TERMINAL
from host.central import agent_groups, audit, messaging_groups, schedule_runs, session_list, triggers
from host.central import schedules as table
from host.central.database import Queryable, Transaction
from host.central.schedule_runs import RunState
from host.central.schedules import Schedule
from host.schedules import folder_watch, making, runs
from host.schedules.request import Wish
from host.schedules.timer import ScheduleTimer
from host.services import Services
from shared_schema.clock import from_text, to_text
from shared_schema.errors import InvalidValue
from shared_schema.rows import Address

OWNER = "the owner"
COMMAND_LINE = "command line"
_WEEK = timedelta(days=7)
_MOST = 10_000


@asynccontextmanager
async def scheduling(services: Services) -> AsyncIterator[None]:
    """Run what is due until the block ends. The services have been started."""
    timer = ScheduleTimer(
        services.central,
        services.clock,
        services.dispatcher.schedules_changed,
        services.settings.layout.workspace,
        services.dispatcher.following,
    )
    async with timer.running():
        yield


async def add(
    services: Services,
    *,
    agent_group: str,
    when: str,
    prompt: str,
    name: str | None = None,
    zone: str | None = None,
    to: str | None = None,
    session: str | None = None,
    missed: str | None = None,
    max_runs: int | None = None,
    ends: str | None = None,
    max_failures: int | None = None,
    budget_tokens: int | None = None,
    budget_usd: float | None = None,
    check: str | None = None,
    urgent: bool | None = None,
) -> dict[str, Any]:
    """Add a schedule. Raises `InvalidValue`, `NotFound`, `Conflict`."""
    wish = Wish(
        when, prompt, name, zone, to, session, missed, max_runs, ends, max_failures, budget_tokens, budget_usd, check,
        urgent,
    )  # fmt: skip
    now = services.clock.now()

    def store(tx: Transaction) -> Schedule:
        group = agent_groups.get_by_name(tx, agent_group)
        origin, zone = _only_chat(tx, group.id), services.settings.zone
        return making.make(tx, group, wish, origin=origin, by=TERMINAL, setting_zone=zone, now=now)

    return await _changed(services, store)


async def heartbeat(
    services: Services,
    *,
    agent_group: str,
    every: str = "30m",
    hours: str | None = None,
    to: str | None = None,
    zone: str | None = None,
    budget_tokens: int | None = None,
    budget_usd: float | None = None,
) -> dict[str, Any]:
    """Let an agent look at its `HEARTBEAT.md` every so often; `off` ends that.

    Raises `InvalidValue`, `NotFound`, `Conflict`.
    """
    now = services.clock.now()
    wish = Wish(to=to, zone=zone, budget_tokens=budget_tokens, budget_usd=budget_usd)

    def store(tx: Transaction) -> Schedule:
        group = agent_groups.get_by_name(tx, agent_group)
        if every == "off":
            return making.cancel(tx, table.find(tx, making.HEARTBEAT, group.id), OWNER, now)
        return making.set_heartbeat(
            tx,
            group,
            every,
            active_hours=hours,
            wish=wish,
            origin=_only_chat(tx, group.id),
            by=TERMINAL,
            setting_zone=services.settings.zone,
            now=now,
        )

    return await _changed(services, store)


async def on(
    services: Services,
    *,
    agent_group: str,
    source: str,
    place: str,
    prompt: str,
    pattern: str | None = None,
    debounce: str = "5s",
    per_hour: int = 12,
    name: str | None = None,
    to: str | None = None,
    zone: str | None = None,
    session: str | None = None,
    max_runs: int | None = None,
    max_failures: int | None = None,
    budget_tokens: int | None = None,
    budget_usd: float | None = None,
    urgent: bool | None = None,
) -> dict[str, Any]:
    """Let events start runs: a file that appears in a folder of the workspace, a message on a channel or in a chat, a
    notification of an MCP server.

    Raises `InvalidValue`, `NotFound`, `Conflict`.
    """
    wish = Wish(
        prompt=prompt, name=name, to=to, zone=zone, session=session, max_runs=max_runs, max_failures=max_failures,
        budget_tokens=budget_tokens, budget_usd=budget_usd, urgent=urgent,
    )  # fmt: skip
    now = services.clock.now()
    channels = {*services.channels, *services.running.names()}
    if source == "message" and ":" not in place and place not in channels:
        raise InvalidValue(f"this host has no channel '{place[:40]}', only {', '.join(sorted(channels))}")

    def there(connection: Queryable) -> dict[str, str]:
        group = agent_groups.get_by_name(connection, agent_group)
        folder = folder_watch.valid_folder(place)
        return folder_watch.files(services.settings.layout.workspace(group.folder), folder, pattern)

    known = await services.central.read(there) if source == "file" else {}

    def store(tx: Transaction) -> Schedule:
        group = agent_groups.get_by_name(tx, agent_group)
        made, trigger = making.set_trigger(
            tx,
            group,
            wish,
            source=source,
            place_of=place,
            pattern=pattern,
            debounce=debounce,
            per_hour=per_hour,
            origin=_only_chat(tx, group.id),
            by=TERMINAL,
            setting_zone=services.settings.zone,
            now=now,
        )
        for key, path in known.items():  # what is there already starts nothing
            triggers.offer(tx, trigger, key, path, now, is_known=True)
        return made

    return await _changed(services, store)


async def list_all(services: Services, *, agent_group: str | None = None, all: bool = False) -> list[dict[str, Any]]:
    """Schedules, what is due first before the others; `all`: those that are over as well."""

    def load(connection: Queryable) -> list[dict[str, Any]]:
        group = None if agent_group is None else agent_groups.get_by_name(connection, agent_group).id
        rows = table.listed(connection, agent_group_id=group, with_ended=all, limit=_MOST)
        return [making.shown(connection, Schedule.from_row(row), row["agent_group"]) for row in rows]

    return await services.central.read(load)


async def show(services: Services, *, name: str, agent_group: str | None = None) -> dict[str, Any]:
    """One schedule, and its last runs. Raises `NotFound`, `Conflict`."""

    def load(connection: Queryable) -> dict[str, Any]:
        schedule = _find(connection, name, agent_group)
        shown = _shown(connection, schedule)
        return shown | {"log": _log(connection, schedule_runs.log(connection, schedule.id, None, 5))}

    return await services.central.read(load)


async def change(
    services: Services,
    *,
    name: str,
    agent_group: str | None = None,
    when: str | None = None,
    prompt: str | None = None,
    new_name: str | None = None,
    zone: str | None = None,
    to: str | None = None,
    session: str | None = None,
    missed: str | None = None,
    max_runs: int | None = None,
    ends: str | None = None,
    max_failures: int | None = None,
    budget_tokens: int | None = None,
    budget_usd: float | None = None,
    check: str | None = None,
    urgent: bool | None = None,
    unset: list[str] | None = None,
) -> dict[str, Any]:
    """Change a schedule; a new time begins now. Raises `InvalidValue`, `NotFound`, `Conflict`."""
    wish = Wish(
        when, prompt, new_name, zone, to, session, missed, max_runs, ends, max_failures, budget_tokens, budget_usd,
        check, urgent, tuple(unset or ()),
    )  # fmt: skip
    now = services.clock.now()
    return await _changed(services, lambda c: making.change(c, _find(c, name, agent_group), wish, now))


async def pause(services: Services, *, name: str, agent_group: str | None = None) -> dict[str, Any]:
    """Pause a schedule. Raises `NotFound`, `Conflict`."""
    now = services.clock.now()
    return await _changed(services, lambda c: making.pause(c, _find(c, name, agent_group), OWNER, now))


async def resume(services: Services, *, name: str, agent_group: str | None = None) -> dict[str, Any]:
    """Let a paused schedule run again. Raises `NotFound`, `Conflict`."""
    now = services.clock.now()
    return await _changed(services, lambda c: making.resume(c, _find(c, name, agent_group), now))


async def cancel(services: Services, *, name: str, agent_group: str | None = None) -> dict[str, Any]:
    """End a schedule for good. Raises `NotFound`, `Conflict`."""
    now = services.clock.now()
    return await _changed(services, lambda c: making.cancel(c, _find(c, name, agent_group), OWNER, now))


async def run(services: Services, *, name: str, agent_group: str | None = None) -> dict[str, Any]:
    """Begin a run now, besides its times. Raises `NotFound`, `Conflict`."""
    now = services.clock.now()

    def begin(tx: Transaction) -> dict[str, Any]:
        schedule = _find(tx, name, agent_group)
        run_id = runs.start_by_hand(tx, schedule, now)
        audit.record(tx, "schedule.run", schedule.name, after={"run": run_id})
        (found,) = _log(tx, schedule_runs.log(tx, schedule.id, None, 1))
        return found

    return await services.central.write(begin)


async def log(
    services: Services,
    *,
    name: str | None = None,
    agent_group: str | None = None,
    state: str | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Runs, the newest first: those of one schedule, or all. Raises `NotFound`, `InvalidValue`."""
    if state is not None and state not in set(RunState):
        raise InvalidValue(f"'{state}' is not a state of a run", hint=f"use one of {', '.join(RunState)}")
    if not 1 <= limit <= _MOST:
        raise InvalidValue(f"the limit must be 1 to {_MOST}, not {limit}")

    def load(connection: Queryable) -> list[dict[str, Any]]:
        found = None if name is None else _find(connection, name, agent_group).id
        return _log(connection, schedule_runs.log(connection, found, state, limit))

    return await services.central.read(load)


async def pause_all(services: Services) -> dict[str, Any]:
    """Pause everything that runs by itself."""
    now = to_text(services.clock.now())

    def store(tx: Transaction) -> dict[str, Any]:
        if table.pause_all(tx, now, TERMINAL, COMMAND_LINE):
            audit.record(tx, "schedule.pause_all", "everything", after={"paused": True})
        return acting(tx, now)

    return await services.central.write(store)


async def resume_all(services: Services) -> dict[str, Any]:
    """Let everything run again; what was due meanwhile is not made up for."""
    now = services.clock.now()

    def store(tx: Transaction) -> dict[str, Any]:
        go_on(tx, now)
        return acting(tx, to_text(now))

    return await services.central.write(store)


def go_on(tx: Transaction, now: Any) -> bool:
    """Let everything run again, in the caller's transaction. False when it was not paused."""
    if not table.resume_all(tx):
        return False
    runs.skip_missed(tx, now)
    audit.record(tx, "schedule.resume_all", "everything", after={"paused": False})
    return True


def acting(connection: Queryable, now: str) -> dict[str, Any]:
    """What acts by itself: `paused` (or None), `active`, `next`, and of each schedule what it used in a week."""
    counts = table.counts(connection)
    since = to_text(from_text(now) - _WEEK)
    week = schedule_runs.since(connection, since)
    return {
        "paused": table.paused(connection),
        "active": counts["active"],
        "paused_ones": counts["paused"],
        "next_at": counts["next_at"],
        "week": week,
        "week_tokens": sum(row["tokens"] for row in week),
        "week_usd": sum(row["cost_usd"] for row in week),
    }


async def _changed(services: Services, store: Callable[[Transaction], Schedule]) -> dict[str, Any]:
    """Do a transaction, and show the schedule as it is then."""

    def run(tx: Transaction) -> dict[str, Any]:
        return _shown(tx, store(tx))

    return await services.central.write(run)


def _only_chat(connection: Queryable, agent_group_id: str) -> Address | None:
    """At the terminal there is no chat in which it is asked for: the only one the agent serves, else its home."""
    wired = messaging_groups.wired_to(connection, agent_group_id, 2)
    return Address(wired[0].channel_type, wired[0].platform_id) if len(wired) == 1 else None


def _find(connection: Queryable, name: str, agent_group: str | None) -> Schedule:
    group = None if agent_group is None else agent_groups.get_by_name(connection, agent_group).id
    return table.find(connection, name, group)


def _shown(connection: Queryable, schedule: Schedule) -> dict[str, Any]:
    group = agent_groups.by_id(connection, schedule.agent_group_id)
    return making.shown(connection, schedule, "" if group is None else group.name)


def _log(connection: Queryable, rows: list[sqlite3.Row]) -> list[dict[str, Any]]:
    return [
        {
            "id": row["id"],
            "schedule": row["schedule"],
            "due_at": row["due_at"],
            "started_at": row["started_at"],
            "finished_at": row["finished_at"],
            "state": row["state"],
            "cause": row["cause"],
            "note": row["note"],
            "delivery": row["delivery"],
            "tokens": row["tokens"],
            "cost_usd": row["cost_usd"],
            "session_id": row["session_id"],
            "short_session_id": None
            if row["session_id"] is None
            else session_list.short_id(connection, row["session_id"]),
        }
        for row in rows
    ]
