"""`/schedule` and `/pause`: what runs by itself, from the chat. Roles are asked for in the transaction that answers.

Members make schedules that speak in the chat where they write, and change their own; admins of the agent change all.
"""

from __future__ import annotations

from collections.abc import Callable

from host.access.standing import Standing
from host.central import audit, schedule_runs
from host.central import schedules as table
from host.central.database import Queryable, Transaction
from host.central.schedules import Schedule
from host.operations.command_order import Order
from host.operations.schedules import acting, go_on
from host.schedules import making, runs
from host.schedules.request import Wish
from host.schedules.when import at_in_words
from shared_schema.clock import from_text
from shared_schema.errors import Conflict, InvalidValue
from shared_schema.rows import Address

HOW = (
    "Write /schedule every weekday at 08:00: what to do. A time may also be 'every 30m', 'tomorrow 08:00', 'in 20m' or "
    "a cron expression. /schedule alone lists them; /schedule show, pause, resume, run, log or cancel takes a name."
)
NOTHING = "Nothing runs by itself here. /schedule every weekday at 08:00: what to do"
MEMBERS = "Only members of {agent} can use /schedule here: `dumbwaiter role grant` makes a person one."
NOT_YOURS = "'{name}' was made by {by}. They, or an admin of {agent}, can change it."
_VERBS = ("list", "show", "pause", "resume", "run", "log", "cancel", "add")
_LOGGED = 10


async def schedule(order: Order) -> None:
    """`/schedule [WHEN: WHAT | show|pause|resume|run|log|cancel NAME]`."""

    def run(tx: Transaction) -> None:
        who = _member(order, tx)
        verb, rest = _parsed(order.command.argument)
        if verb == "list":
            text = _listed(order, tx, who)
        elif verb == "add":
            text = _added(order, tx, who, rest)
        elif verb == "run":
            found = _changeable(order, tx, who, rest)
            runs.start_by_hand(tx, found, from_text(order.now))
            text = f"'{found.name}' runs now."
        elif verb in ("show", "log"):
            found = _visible(order, tx, who, rest)
            text = _described(tx, found) if verb == "show" else _log(tx, found)
        else:
            text = _changed(tx, verb, _changeable(order, tx, who, rest), who, order.now)
        order.finish(tx, text)

    await order.write(run)


async def pause(order: Order) -> None:
    """`/pause` pauses everything that runs by itself, `/pause off` lets it run again."""

    def run(tx: Transaction) -> None:
        who = order.who(tx)
        if who is None or not who.administers(None):
            raise Conflict("Only the owner, or an admin of all agents, can use /pause.")
        if order.command.argument.lower() not in ("", "off", "on"):
            raise InvalidValue("Write /pause to pause all that runs by itself, and /pause off to let it run again.")
        if order.command.argument.lower() == "off":
            go_on(tx, from_text(order.now))
            text = "What runs by itself runs again. What was due meanwhile is not made up for."
        else:
            if table.pause_all(tx, order.now, who.user, order.chat):
                audit.record(tx, "schedule.pause_all", "everything", after={"paused": True})
            text = "All that runs by itself is paused. What goes on is not stopped. /pause off lets it run again."
        count = acting(tx, order.now)["active"]
        order.finish(tx, f"{text} Schedules: {count}.")

    await order.write(run)


def _parsed(argument: str) -> tuple[str, str]:
    """What is to be done, and with what. `add` has the rest as it was written."""
    word, _, rest = argument.partition(" ")
    verb = word.lower()
    if not argument or (verb == "list" and not rest):
        return "list", ""
    if verb == "add":
        return "add", rest
    if verb in _VERBS and ": " not in argument:
        if not rest.strip():
            raise InvalidValue(f"Write the name behind it, such as /schedule {verb} morning-report.")
        return verb, rest.strip()
    return "add", argument


def _member(order: Order, connection: Queryable) -> Standing:
    who = order.who(connection)
    if who is None or not who.belongs_to(order.row.agent_group_id):
        raise Conflict(MEMBERS.format(agent=order.agent_group(connection).name))
    return who


def _added(order: Order, tx: Transaction, who: Standing, said: str) -> str:
    when, colon, prompt = said.partition(": ")
    if not colon:
        when, colon, prompt = said.partition(":\n")
    if not colon or not prompt.strip():
        raise InvalidValue(HOW)
    row = order.row
    made = making.make(
        tx,
        order.agent_group(tx),
        Wish(when=when, prompt=prompt),
        origin=Address(row.channel_type, row.platform_id, row.thread_id),
        by=who.user,
        setting_zone=order.services.settings.zone,
        now=from_text(order.now),
    )
    return f"'{made.name}' is set. {_next(tx, made)} /schedule cancel {made.name} ends it."


def _listed(order: Order, connection: Queryable, who: Standing) -> str:
    """Those that speak in this chat; all of the agent's for who may change them."""
    of = order.row.agent_group_id
    chat = None if who.administers(of) else (order.row.channel_type, order.row.platform_id)
    rows = table.listed(connection, agent_group_id=of, chat=chat, limit=50)
    lines = [_line(making.shown(connection, Schedule.from_row(row), row["agent_group"])) for row in rows]
    if (paused := table.paused(connection)) is not None:
        lines.insert(0, f"Everything is paused by {paused['by']}. /pause off lets it run again.")
    return "\n".join(lines) or NOTHING


def _line(shown: dict[str, object]) -> str:
    is_active = shown["status"] in ("active", making.PAUSED_ALL)
    following = f"next {shown['next']}" if is_active else f"{shown['status']}: {shown['why'] or 'it waits for a yes'}"
    return f"{shown['name']}: {shown['when']}; {following}"


def _visible(order: Order, connection: Queryable, who: Standing, name: str) -> Schedule:
    found = table.find(connection, name, order.row.agent_group_id)
    here = (found.channel_type, found.platform_id) == (order.row.channel_type, order.row.platform_id)
    if not here and found.created_by != who.user and not who.administers(found.agent_group_id):
        raise Conflict(f"There is no schedule '{name[:80]}' in this chat. /schedule lists them.")
    return found


def _changeable(order: Order, connection: Queryable, who: Standing, name: str) -> Schedule:
    found = _visible(order, connection, who, name)
    if found.created_by != who.user and not who.administers(found.agent_group_id):
        agent = order.agent_group(connection).name
        raise Conflict(NOT_YOURS.format(name=found.name, by=found.created_by, agent=agent))
    return found


def _changed(tx: Transaction, verb: str, found: Schedule, who: Standing, stamp: str) -> str:
    now = from_text(stamp)
    steps: dict[str, Callable[[], Schedule]] = {
        "pause": lambda: making.pause(tx, found, who.user, now),
        "resume": lambda: making.resume(tx, found, now),
        "cancel": lambda: making.cancel(tx, found, who.user, now),
    }
    after = steps[verb]()
    word = {"pause": "is paused", "resume": "runs again", "cancel": "is cancelled"}[verb]
    return f"'{after.name}' {word}. {_next(tx, after) if verb == 'resume' else ''}".strip()


def _next(connection: Queryable, schedule: Schedule) -> str:
    shown = making.shown(connection, schedule, "")
    return f"It is due {shown['when']}; next: {shown['next']}."


def _described(connection: Queryable, schedule: Schedule) -> str:
    shown = making.shown(connection, schedule, "")
    names = ("status", "why", "when", "next", "to", "missed", "runs", "last", "created_by", "prompt")
    lines = [f"{name.replace('_', ' ')}: {shown[name]}" for name in names if shown[name] is not None]
    return "\n".join([schedule.name, *lines])


def _log(connection: Queryable, schedule: Schedule) -> str:
    rows = schedule_runs.log(connection, schedule.id, None, _LOGGED)
    lines = []
    for row in rows:
        parts = (at_in_words(row["due_at"], schedule.timezone), row["state"], row["delivery"], row["note"])
        lines.append(" | ".join(filter(None, parts)))
    return "\n".join(lines) or f"'{schedule.name}' has not run yet."
