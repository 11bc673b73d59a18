"""Making and changing schedules, in the caller's transaction: the same for the command line, chats and agents."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from host.central import audit, messaging_groups, schedule_runs, schedules, triggers
from host.central.agent_groups import AgentGroup
from host.central.database import Queryable, Transaction
from host.central.schedules import Schedule
from host.central.triggers import Trigger
from host.routing.engage import valid_pattern
from host.schedules import folder_watch, place, template, when
from host.schedules.catch_up import Missed
from host.schedules.heartbeat import FILE
from host.schedules.recurrence import first, stored
from host.schedules.request import DEFAULT_FAILURES, Wish, columns, name_of, valid_name
from host.schedules.runs import recurrence_of
from shared_schema.clock import from_text, to_text
from shared_schema.errors import Conflict, InvalidValue, NotFound
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address
from shared_schema.tool_servers import servers_of

SOURCES = ("file", "message", "mcp")
_MOST_PER_HOUR = 1_000
HEARTBEAT = "heartbeat"
"""The name of the schedule that is an agent group's heartbeat."""
PAUSED_ALL = "paused (all)"
"""What an active schedule is shown as while everything is paused."""
_AUDITED = (
    "prompt", "kind", "spec", "timezone", "status", "missed", "session_mode", "speaks_in", "channel_type",
    "platform_id", "urgent", "max_runs", "ends_at", "max_failures", "budget_usd", "budget_tokens", "check_script",
)  # fmt: skip


def make(
    tx: Transaction,
    group: AgentGroup,
    wish: Wish,
    *,
    origin: Address | None,
    by: str,
    setting_zone: str,
    now: datetime,
    status: str = "active",
    purpose: str = "task",
) -> Schedule:
    """Add a schedule of an agent group. `origin` is the chat in which it is asked for, `by` who asks.

    Raises `InvalidValue`, `Conflict`, `NotFound`.
    """
    if wish.when is None or wish.prompt is None:
        raise InvalidValue("a schedule needs a time and a prompt", hint=f"a time is, for instance, {when.EXAMPLES}")
    speaks = _speaks(tx, group.id, wish.to or (place.ORIGIN if origin else place.HOME), origin)
    address = _address(tx, group.id, speaks)
    values: dict[str, Any] = {
        "id": new_id(Prefix.SCHEDULE),
        "agent_group_id": group.id,
        "name": _free_name(tx, group.id, wish),
        "check_script": None,
        "status": status,
        "why": None,
        "timezone": place.zone_of(tx, address, setting_zone),
        "missed": str(Missed.ONCE),
        "session_mode": "own",
        "urgent": 0,
        "max_runs": None,
        "ends_at": None,
        "max_failures": DEFAULT_FAILURES,
        "failures": 0,
        "budget_usd": None,
        "budget_tokens": None,
        "created_by": by,
        "created_at": to_text(now),
        "purpose": purpose,
        "hours": None,
        **speaks,
    }
    values |= columns(wish, values["timezone"], now)
    _require_some(values["next_at"], values["ends_at"])
    schedule = schedules.insert(tx, values)
    audit.record(tx, "schedule.add", schedule.name, after=audited(schedule))
    return schedule


def set_heartbeat(
    tx: Transaction,
    group: AgentGroup,
    every: str,
    *,
    active_hours: str | None,
    wish: Wish,
    origin: Address | None,
    by: str,
    setting_zone: str,
    now: datetime,
) -> Schedule:
    """Let an agent group look at its `HEARTBEAT.md` every so often. Raises as `make`."""
    if active_hours is not None:
        when.hours(active_hours)
    wish = replace(wish, when=f"every {every.removeprefix('every ')}", name=HEARTBEAT, prompt=FILE, missed="once")
    known = [each for each in (_known(tx, group.id, HEARTBEAT),) if each is not None]
    if known and not known[0].is_heartbeat:
        raise Conflict(f"there is a schedule '{HEARTBEAT}' already", hint="give that another name first")
    made = (
        change(tx, known[0], wish, now)
        if known
        else make(tx, group, wish, origin=origin, by=by, setting_zone=setting_zone, now=now, purpose="heartbeat")
    )
    schedules.update(tx, replace(made, hours=active_hours or made.hours))
    return schedules.get(tx, made.id)


def set_trigger(
    tx: Transaction,
    group: AgentGroup,
    wish: Wish,
    *,
    source: str,
    place_of: str,
    pattern: str | None,
    debounce: str,
    per_hour: int,
    origin: Address | None,
    by: str,
    setting_zone: str,
    now: datetime,
) -> tuple[Schedule, Trigger]:
    """Let events start runs of an agent group; the prompt is their template. Raises as `make`."""
    if source not in SOURCES:
        raise InvalidValue(f"'{source[:40]}' is no source of events", hint=f"use one of {', '.join(SOURCES)}")
    template.require(wish.prompt or "")
    if not 1 <= per_hour <= _MOST_PER_HOUR:
        raise InvalidValue(f"the runs in an hour must be 1 to {_MOST_PER_HOUR}, not {per_hour}")
    seconds = when.duration(debounce)
    if source == "file":
        watched = folder_watch.valid_folder(place_of)
    elif source == "mcp":
        watched, pattern = _server(group, place_of), None if pattern is None else valid_pattern(pattern)
    else:
        watched = messaging_groups.get_by_name(tx, place_of).address if ":" in place_of else place_of
        pattern = None if pattern is None else valid_pattern(pattern)
    made = make(tx, group, replace(wish, when="in 1m"), origin=origin, by=by, setting_zone=setting_zone, now=now)
    schedules.plan(tx, made.id, None, to_text(now))  # it is due when something happens
    trigger = Trigger(made.id, source, watched, pattern, seconds, per_hour)
    triggers.insert(tx, trigger)
    return schedules.get(tx, made.id), trigger


def _server(group: AgentGroup, name: str) -> str:
    """The name of an MCP server that an agent group has. Raises `InvalidValue`."""
    names = sorted(servers_of(group.tool_servers or "{}"))
    if name not in names:
        known = f"only {', '.join(names)}" if names else "it has none"
        raise InvalidValue(
            f"{group.name} has no MCP server '{name[:64]}', {known}",
            hint=f"`dumbwaiter agent-group set {group.name} --tool-servers FILE` gives it some",
        )
    return name


def _known(connection: Queryable, agent_group_id: str, name: str) -> Schedule | None:
    """The schedule of exactly that name that is not over."""
    found = schedules.named(connection, name, agent_group_id)
    return found if found is not None and found.name == name and not found.is_over else None


def change(tx: Transaction, schedule: Schedule, wish: Wish, now: datetime) -> Schedule:
    """Change a schedule; with another time or zone it is planned anew. Raises `InvalidValue`, `Conflict`."""
    trigger = triggers.of_schedule(tx, schedule.id)
    if trigger is not None and (wish.when is not None or wish.prompt is not None):
        template.require(wish.prompt or "")
        if wish.when is not None:
            raise Conflict(f"'{schedule.name}' runs {trigger.in_words}", hint="make another one for a time")
    found = columns(wish, schedule.timezone, now)
    if wish.to is not None:
        origin = None
        if schedule.channel_type is not None and schedule.platform_id is not None:
            origin = Address(schedule.channel_type, schedule.platform_id, schedule.thread_id)
        found |= _speaks(tx, schedule.agent_group_id, wish.to, origin)
    if wish.name is not None and wish.name != schedule.name:
        _require_free(tx, schedule.agent_group_id, wish.name)
        schedules.free_name(tx, schedule.agent_group_id, wish.name)
    after = replace(schedule, **found)
    if "timezone" in found and "kind" not in found:
        after = replace(after, next_at=stored(first(recurrence_of(after), now)), planned_at=to_text(now))
    if after.is_over and after.next_at is not None and "kind" in found:
        after = replace(after, status="active", why=None, failures=0)  # what is over begins anew with a new time
    if not after.is_over and trigger is None:
        _require_some(after.next_at, after.ends_at)
    schedules.update(tx, after)
    audit.record(tx, "schedule.set", after.name, before=audited(schedule), after=audited(after))
    return schedules.get(tx, schedule.id)


def pause(tx: Transaction, schedule: Schedule, by: str, now: datetime) -> Schedule:
    """Pause a schedule. A run that goes on is not stopped. Raises `Conflict` for one that is over."""
    _require_going(schedule)
    if schedule.status == "active":
        schedules.set_status(tx, schedule.id, "paused", f"{by} has paused it", keep_next=True)
        audit.record(tx, "schedule.pause", schedule.name, after={"status": "paused"})
    return schedules.get(tx, schedule.id)


def resume(tx: Transaction, schedule: Schedule, now: datetime) -> Schedule:
    """Let a schedule run again. What was due while it was paused is not made up for. Raises `Conflict`."""
    _require_going(schedule)
    if schedule.status == "waiting":
        raise Conflict(f"'{schedule.name}' waits for an approval", hint="`dumbwaiter approval list` shows it")
    if schedule.status == "paused":
        is_to_come = schedule.next_at is not None and from_text(schedule.next_at) > now
        next_at = schedule.next_at if is_to_come else stored(first(recurrence_of(schedule), now))
        if triggers.of_schedule(tx, schedule.id) is not None:
            next_at = to_text(now) if triggers.is_any_waiting(tx, schedule.id) else None
        elif next_at is None:
            raise Conflict(f"'{schedule.name}' is over", hint=f"`dumbwaiter schedule set {schedule.name} --when …`")
        after = replace(schedule, status="active", why=None, failures=0, next_at=next_at, planned_at=to_text(now))
        schedules.update(tx, after)
        audit.record(tx, "schedule.resume", schedule.name, after={"status": "active"})
    return schedules.get(tx, schedule.id)


def cancel(tx: Transaction, schedule: Schedule, by: str, now: datetime) -> Schedule:
    """End a schedule for good. Its log stays; its name is free. A run that goes on is not stopped."""
    if schedule.status != "cancelled":
        schedules.set_status(tx, schedule.id, "cancelled", f"{by} has cancelled it")
        audit.record(tx, "schedule.cancel", schedule.name, after={"status": "cancelled"})
    return schedules.get(tx, schedule.id)


def shown(connection: Queryable, schedule: Schedule, agent_group: str) -> dict[str, Any]:
    """A schedule as people and agents see it."""
    last = schedule_runs.last(connection, schedule.id)
    is_held = schedule.status == "active" and schedules.paused(connection) is not None
    status = PAUSED_ALL if is_held else schedule.status
    trigger = triggers.of_schedule(connection, schedule.id)
    return {
        "id": schedule.id,
        "name": schedule.name,
        "agent_group": agent_group,
        "status": status,
        "why": schedule.why,
        "when": when.in_words(recurrence_of(schedule)) if trigger is None else trigger.in_words,
        "next": None if schedule.next_at is None else when.at_in_words(schedule.next_at, schedule.timezone),
        "next_at": schedule.next_at,
        "zone": schedule.timezone,
        "prompt": schedule.prompt,
        "to": _to(connection, schedule),
        "session": schedule.session_mode,
        "missed": schedule.missed,
        "hours": schedule.hours,
        "urgent": bool(schedule.urgent),
        "check": schedule.check_script,
        "max_runs": schedule.max_runs,
        "ends": None if schedule.ends_at is None else when.at_in_words(schedule.ends_at, schedule.timezone),
        "max_failures": schedule.max_failures,
        "failures": schedule.failures,
        "budget_tokens": schedule.budget_tokens,
        "budget_usd": schedule.budget_usd,
        "runs": schedule.runs,
        "running": schedule.open_run is not None,
        "last": None if last is None else last.state,
        "last_at": None if last is None else last.started_at,
        "created_by": schedule.created_by,
        "created_at": schedule.created_at,
    }


def audited(schedule: Schedule) -> dict[str, Any]:
    """What the audit log keeps of a schedule."""
    return {name: getattr(schedule, name) for name in _AUDITED}


def _to(connection: Queryable, schedule: Schedule) -> str:
    """Where it speaks, as it may be written in `to`; with the chat behind it."""
    try:
        address = place.address_of(connection, schedule)
    except NotFound:
        return f"{schedule.speaks_in} (gone)"
    chat = f"{address.channel_type}:{address.platform_id}"
    if schedule.speaks_in == place.NOWHERE:
        return place.NOWHERE
    return chat if schedule.speaks_in == place.ORIGIN else f"{schedule.speaks_in} ({chat})"


def _speaks(connection: Queryable, agent_group_id: str, to: str, origin: Address | None) -> dict[str, Any]:
    """The columns of where a schedule speaks. Raises `NotFound`, `InvalidValue`."""
    kept = origin or Address(None, None)  # type: ignore[arg-type]
    found = {
        "speaks_in": to,
        "channel_type": kept.channel_type,
        "platform_id": kept.platform_id,
        "thread_id": kept.thread_id,
    }
    if to == place.ORIGIN:
        if origin is None:
            raise InvalidValue("it is asked for in no chat", hint="say where it speaks: --to home, nowhere, or a chat")
    elif ":" in to:
        chat = messaging_groups.get_by_name(connection, to)
        found |= {
            "speaks_in": place.ORIGIN, "channel_type": chat.channel_type, "platform_id": chat.platform_id,
            "thread_id": None,
        }  # fmt: skip
    elif to != place.NOWHERE:
        place.named(connection, agent_group_id, to)
    return found


def _address(connection: Queryable, agent_group_id: str, speaks: dict[str, Any]) -> Address | None:
    if speaks["speaks_in"] == place.NOWHERE:
        return None
    if speaks["speaks_in"] == place.ORIGIN:
        return Address(speaks["channel_type"], speaks["platform_id"], speaks["thread_id"])
    return place.named(connection, agent_group_id, speaks["speaks_in"])


def _free_name(connection: Queryable, agent_group_id: str, wish: Wish) -> str:
    """The name that was asked for, if it is free; else one made of the prompt that is."""
    if wish.name is not None:
        _require_free(connection, agent_group_id, valid_name(wish.name))
        return wish.name
    base = name_of(wish.prompt or "")
    for name in (base, *(f"{base}-{number}" for number in range(2, 10_000))):
        if _is_free(connection, agent_group_id, name):
            return name
    raise Conflict("there are too many schedules with that prompt", hint="give it a name")


def _require_free(connection: Queryable, agent_group_id: str, name: str) -> None:
    schedules.require_over(connection, agent_group_id, name)
    if not _is_free(connection, agent_group_id, name):
        raise Conflict(
            f"there is a schedule '{name}' already",
            hint=f"choose another name; `dumbwaiter schedule set {name}` changes that one",
        )


def _is_free(connection: Queryable, agent_group_id: str, name: str) -> bool:
    try:
        schedules.require_over(connection, agent_group_id, name)
        found = schedules.named(connection, name, agent_group_id)
    except Conflict:
        return False
    return found is None or found.name != name or found.is_over


def _require_going(schedule: Schedule) -> None:
    if schedule.is_over:
        raise Conflict(
            f"'{schedule.name}' is over: {schedule.why or schedule.status}",
            hint=f"`dumbwaiter schedule set {schedule.name} --when …` begins it anew",
        )


def _require_some(next_at: str | None, ends_at: str | None) -> None:
    if next_at is None or (ends_at is not None and next_at > ends_at):
        raise InvalidValue("it would never run: it ends before its first time")
