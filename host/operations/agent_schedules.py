"""What agents do about schedules by themselves, with tools: within limits, and as the policy of their group says.

A request may come twice (the agent asks again when it hears nothing): each leaves things as one does.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from host.access.agent_schedule import AGENT_SCHEDULE, subject_of
from host.central import agent_groups, ingest, rate_limits
from host.central import schedules as table
from host.central.agent_groups import AgentGroup
from host.central.database import Queryable, Transaction
from host.central.deliveries import NO_CHAT
from host.central.rate_limits import Act
from host.central.schedules import Schedule
from host.central.sessions import Session
from host.delivery.request import RequestName
from host.operations.agent_acts import ask_people
from host.schedules import making
from host.schedules.owner import BY_AGENT, tell
from host.schedules.request import MOST_OF_AGENT, Wish, name_of, require_of_agent
from host.schedules.runs import recurrence_of
from host.services import Services
from shared_schema.clock import to_text
from shared_schema.errors import Conflict, InvalidValue, NotFound

REQUESTS = (
    RequestName.SCHEDULE_TASK, RequestName.LIST_TASKS, RequestName.UPDATE_TASK, RequestName.PAUSE_TASK,
    RequestName.RESUME_TASK, RequestName.CANCEL_TASK,
)  # fmt: skip
_SHOWN = (
    "name", "status", "why", "when", "next", "prompt", "to", "session", "missed", "max_runs", "ends", "runs", "last",
    "last_at",
)  # fmt: skip
_BY = "its agent"


async def answer(
    services: Services, session: Session, name: RequestName, arguments: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Do what an agent asks for. Raises `InvalidValue`, `NotFound`, `Conflict`, which the agent is told."""
    now, zone = services.clock.now(), services.settings.zone
    if name == RequestName.LIST_TASKS:
        return await services.central.read(_list, session)
    refused: list[str] = []  # told the owner about in the same transaction, so it must not be rolled back

    def run(tx: Transaction) -> list[dict[str, Any]]:
        refused.clear()
        group = agent_groups.by_id(tx, session.agent_group_id)
        assert group is not None, "a session keeps its agent group"
        if group.schedules == "deny":
            raise Conflict("the owner does not let you make or change schedules by yourself: ask a person to do it")
        if name == RequestName.SCHEDULE_TASK:
            if (full := _full(tx, group, now)) is not None:
                refused.append(full)
                return []
            return [_schedule(tx, session, group, arguments, zone, now)]
        schedule = _own(table.find(tx, str(arguments["name"]), group.id), group)
        changed = _change(tx, schedule, name, arguments, now)
        if name != RequestName.UPDATE_TASK or group.schedules == "allow":
            return [_shown(tx, changed, group)]
        # What was approved is not what it says now.
        table.set_status(tx, changed.id, "waiting", None, keep_next=True)
        note = _ask(tx, session, changed, group)
        return [_shown(tx, table.get(tx, changed.id), group) | {"note": note}]

    found = await services.central.write(run)
    if refused:
        raise Conflict(refused[0])
    return found


def _list(connection: Queryable, session: Session) -> list[dict[str, Any]]:
    group = agent_groups.by_id(connection, session.agent_group_id)
    assert group is not None, "a session keeps its agent group"
    rows = table.listed(connection, agent_group_id=group.id, limit=200)
    return [_shown(connection, Schedule.from_row(row), group) for row in rows]


def _schedule(
    tx: Transaction, session: Session, group: AgentGroup, arguments: Mapping[str, Any], zone: str, now: datetime
) -> dict[str, Any]:
    wish = Wish(**arguments)
    if (known := _asked_before(tx, group, wish)) is not None:
        return _shown(tx, known, group) | {"note": "it is there already"}
    origin = ingest.last_address(tx, session.id)
    if origin is not None and origin.channel_type == NO_CHAT:
        origin = None
    _require_destination(wish.to)
    status = "active" if group.schedules == "allow" else "waiting"
    by = f"{BY_AGENT}{group.name}"
    made = making.make(tx, group, wish, origin=origin, by=by, setting_zone=zone, now=now, status=status)
    require_of_agent(recurrence_of(made), now)
    if status == "active":
        return _shown(tx, made, group)
    return _shown(tx, made, group) | {"note": _ask(tx, session, made, group)}


def _ask(tx: Transaction, session: Session, made: Schedule, group: AgentGroup) -> str:
    """Ask the admins of the agent for a yes; a sentence for the agent."""
    shown = making.shown(tx, made, group.name)
    about = {
        "agent": group.name,
        "schedule": made.name,
        "when": shown["when"],
        "next": shown["next"],
        "to": shown["to"],
    }
    about |= {"prompt": made.prompt, "id": made.id, "agent_group_id": group.id, "session_id": session.id}
    code, _ = ask_people(tx, AGENT_SCHEDULE, subject_of(made), about, group, session)
    return f"it waits for a yes of an admin (code {code})"


def _asked_before(connection: Queryable, group: AgentGroup, wish: Wish) -> Schedule | None:
    """The schedule that the same request made before; None for a new one."""
    try:
        found = table.find(connection, wish.name or name_of(wish.prompt or ""), group.id)
    except (NotFound, Conflict):
        return None
    same = found.prompt == (wish.prompt or "").strip() and found.created_by == f"{BY_AGENT}{group.name}"
    return found if same and not found.is_over else None


def _full(tx: Transaction, group: AgentGroup, now: datetime) -> str | None:
    """Why an agent may make no further schedule; its owner is told once in an hour."""
    stamp = to_text(now)
    count = table.made_by_agent(tx, group.id)
    if count >= MOST_OF_AGENT:
        why = f"you have {count} schedules already, and {MOST_OF_AGENT} is the limit: cancel some first"
    elif not rate_limits.take(tx, Act.SCHEDULE, group.name).allowed:
        why = (
            f"you have asked for {rate_limits.PER_HOUR[Act.SCHEDULE]} schedules in this hour already: wait for the next"
        )
    else:
        return None
    rows = table.listed(tx, agent_group_id=group.id, limit=1)
    if rows:
        text = (
            f"The agent {group.name} wants to make more schedules than it may. `dumbwaiter schedule list` shows them."
        )
        tell(tx, Schedule.from_row(rows[0]), f"limit-{stamp[:13]}", text, stamp)
    return why


def _change(
    tx: Transaction, schedule: Schedule, name: RequestName, arguments: Mapping[str, Any], now: datetime
) -> Schedule:
    match name:
        case RequestName.PAUSE_TASK:
            return making.pause(tx, schedule, _BY, now)
        case RequestName.RESUME_TASK:
            return making.resume(tx, schedule, now)
        case RequestName.CANCEL_TASK:
            return making.cancel(tx, schedule, _BY, now)
        case _:
            values = {key: value for key, value in arguments.items() if key != "name"}
            _require_destination(values.get("to"))
            if schedule.status == "waiting":
                raise Conflict(f"'{schedule.name}' waits for an approval as it is: cancel it and ask for another one")
            if schedule.is_over:
                raise Conflict(f"'{schedule.name}' is over: make a new task")
            changed = making.change(tx, schedule, Wish(**values), now)
            require_of_agent(recurrence_of(changed), now)
            return changed


def _require_destination(to: str | None) -> None:
    """An agent names where it may send. An address of any chat is for people to give."""
    if to is not None and ":" in to:
        raise InvalidValue("'to' must be origin, home, nowhere, or the name of one of your destinations")


def _own(schedule: Schedule, group: AgentGroup) -> Schedule:
    """Raises `Conflict` for a schedule that a person has made, where the policy is not `allow`."""
    if schedule.created_by != f"{BY_AGENT}{group.name}" and group.schedules != "allow":
        raise Conflict(f"a person has made '{schedule.name}': ask them to change it")
    return schedule


def _shown(connection: Queryable, schedule: Schedule, group: AgentGroup) -> dict[str, Any]:
    shown = making.shown(connection, schedule, group.name)
    return {name: shown[name] for name in _SHOWN if shown[name] is not None}
