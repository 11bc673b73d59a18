"""`dumbwaiter schedule`: what runs by itself, and when; `pause` and `resume`: all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

import click

from host.cli.command import Command, Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import moment, present, print_fields, print_table
from host.cli.plain import plain
from host.cli.table import Column
from shared_schema.foreign_text import decoded

F = TypeVar("F", bound=Callable[..., Any])

COLUMNS = (
    Column("name"),
    Column("agent_group", "agent", cut=True, spare=2),
    Column("status"),
    Column("when", cut=True),
    Column("next"),
    Column("to", cut=True, spare=1),
    Column("last", spare=1),
)
FIELDS = (
    "name", "id", "agent_group", "status", "why", "when", "next", "prompt", "to", "session", "missed", "hours",
    "urgent", "check", "max_runs", "ends", "max_failures", "failures", "budget_tokens", "budget_usd", "runs", "running",
    "created_by", "created_at",
)  # fmt: skip
LOG_COLUMNS = (
    Column("due_at", "due"),
    Column("schedule", cut=True),
    Column("state"),
    Column("delivery", cut=True, spare=1),
    Column("tokens", spare=2),
    Column("cost", "usd", spare=2),
    Column("session_id", "session", spare=1),
    Column("note", cut=True),
)
WEEK_COLUMNS = (
    Column("schedule", cut=True), Column("agent_group", "agent", cut=True, spare=1), Column("status"), Column("runs"),
    Column("failed"), Column("tokens"), Column("cost", "usd"),
)  # fmt: skip
UNSET = ("max-runs", "ends", "budget-tokens", "budget-usd", "check")


@click.group("schedule", cls=Group)
def schedule() -> None:
    """What an agent does by itself: once, at intervals, or by cron. docs/schedules.md shows how."""


def _of_agent(function: F) -> F:
    return click.option("--agent-group", metavar="NAME", help="Whose schedule, where several have one of that name.")(
        function
    )


def _rules(function: F) -> F:
    """The options that `add` and `set` share."""
    for option in reversed(
        (
            click.option("--to", metavar="WHERE", help="Where it speaks: a chat, a destination, home, or nowhere."),
            click.option("--zone", metavar="ZONE", help="Its time zone, such as Europe/Berlin; else the chat's."),
            click.option(
                "--session", type=click.Choice(["own", "chat"]), help="A session for each run (own), or the chat's."
            ),
            click.option(
                "--missed",
                type=click.Choice(["skip", "once", "all"]),
                help="What is made up for of what was missed while the host was down: once, unless said otherwise.",
            ),
            click.option("--max-runs", type=click.IntRange(1), metavar="N", help="It is over after so many runs."),
            click.option("--ends", metavar="TIME", help="It is over then, such as '2026-12-24 18:00' or 'in 14d'."),
            click.option(
                "--max-failures", type=click.IntRange(1, 100), metavar="N",
                help="It is paused after so many failures in a row: 3, unless said otherwise.",
            ),
            click.option(
                "--budget-tokens", type=click.IntRange(1), metavar="N", help="What its runs may use a day, in tokens."
            ),
            click.option(
                "--budget-usd", type=click.FloatRange(0, min_open=True), metavar="USD",
                help="What its runs may use a day, in US dollars.",
            ),
            click.option(
                "--check", type=click.File("rb"), metavar="FILE",
                help="A script that runs where the agent runs, before its model: without output there is no run.",
            ),
            click.option("--urgent/--not-urgent", default=None, help="Whether it speaks in quiet hours as well."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


@schedule.command("add")
@click.argument("agent_group")
@click.argument("when")
@click.argument("prompt")
@click.option("--name", metavar="NAME", help="What it is called; else the first words of its prompt.")
@_rules
@json_option
@click.pass_obj
def add(
    invocation: Invocation,
    /,
    agent_group: str,
    when: str,
    prompt: str,
    check: BinaryIO | None,
    as_json: bool,
    **rules: Any,
) -> None:
    """Let an agent do something at a time.

    WHEN is 'every 30m', 'every weekday at 08:00', '0 8 * * 1-5', '2026-12-01 08:00', 'tomorrow 08:00' or 'in 20m';
    PROMPT is what the agent is told then.
    """
    made = invocation.call(
        "schedule.add", agent_group=agent_group, when=when, prompt=prompt, check=_script(check), **rules
    )
    present(made, as_json, _show)


@schedule.command("on")
@click.argument("agent_group")
@click.argument("source", type=click.Choice(["file", "message", "mcp"]))
@click.argument("place")
@click.argument("prompt")
@click.option("--pattern", metavar="PATTERN", help="Only these: names such as '*.pdf', or RE2 in a text.")
@click.option(
    "--debounce",
    metavar="TIME",
    default="5s",
    show_default=True,
    help="A run begins after so long without more.",
)
@click.option(
    "--per-hour", type=click.IntRange(1, 1000), default=12, show_default=True, metavar="N", help="At most so many runs."
)
@click.option("--name", metavar="NAME", help="What it is called; else the first words of its prompt.")
@click.option("--to", metavar="WHERE", help="Where it speaks: a chat, a destination, home, or nowhere.")
@click.option("--session", type=click.Choice(["own", "chat"]), help="A session for each run (own), or the chat's.")
@click.option("--max-runs", type=click.IntRange(1), metavar="N", help="It is over after so many runs.")
@click.option("--max-failures", type=click.IntRange(1, 100), metavar="N", help="It is paused after so many failures.")
@click.option("--budget-tokens", type=click.IntRange(1), metavar="N", help="What it may use a day, in tokens.")
@click.option(
    "--budget-usd",
    type=click.FloatRange(0, min_open=True),
    metavar="USD",
    help="What it may use a day, in US dollars.",
)
@click.option("--urgent/--not-urgent", default=None, help="Whether it speaks in quiet hours as well.")
@json_option
@click.pass_obj
def on(
    invocation: Invocation,
    /,
    agent_group: str,
    source: str,
    place: str,
    prompt: str,
    as_json: bool,
    **rules: Any,
) -> None:
    """Let an agent do something when something happens.

    SOURCE is `file`, and PLACE a folder of its workspace; `message`, and PLACE a channel (such as one for mail or
    webhooks) or a chat; or `mcp`, and PLACE one of its MCP servers. In PROMPT, {text} stands for what came and {count}
    for how many there were.
    """
    made = invocation.call("schedule.on", agent_group=agent_group, source=source, place=place, prompt=prompt, **rules)
    present(made, as_json, _show)


@schedule.command("heartbeat")
@click.argument("agent_group")
@click.argument("every", default="30m")
@click.option("--hours", metavar="HOURS", help="Only then, such as 08:00-22:00.")
@click.option("--to", metavar="WHERE", help="Where it speaks: a chat, a destination, home, or nowhere.")
@click.option("--zone", metavar="ZONE", help="Its time zone, such as Europe/Berlin; else the chat's.")
@click.option("--budget-tokens", type=click.IntRange(1), metavar="N", help="What it may use a day, in tokens.")
@click.option(
    "--budget-usd",
    type=click.FloatRange(0, min_open=True),
    metavar="USD",
    help="What it may use a day, in US dollars.",
)
@json_option
@click.pass_obj
def heartbeat(invocation: Invocation, /, agent_group: str, every: str, as_json: bool, **rules: Any) -> None:
    """Let an agent look at its HEARTBEAT.md every so often.

    EVERY is such as 30m, which it is without; `off` ends it.
    """
    made = invocation.call("schedule.heartbeat", agent_group=agent_group, every=every, **rules)
    present(made, as_json, _show)


@schedule.command("list")
@click.option("--agent-group", metavar="NAME", help="Only of this agent group.")
@click.option("--all", "all_of_them", is_flag=True, help="Also those that are over.")
@json_option
@click.pass_obj
def list_all(invocation: Invocation, agent_group: str | None, all_of_them: bool, as_json: bool) -> None:
    """Schedules, what is due first before the others."""
    rows = invocation.call("schedule.list", agent_group=agent_group, all=all_of_them)
    none = "There are no schedules: `dumbwaiter schedule add AGENT 'every day at 08:00' PROMPT` makes one."

    def show_all(rows: list[dict[str, Any]]) -> None:
        print_table([each | {"short_next": each["next_at"]} for each in rows], COLUMNS, none=none)

    present(rows, as_json, show_all)


@schedule.command("upcoming")
@click.option("--agent-group", metavar="NAME", help="Only of this agent group.")
@click.option("--days", type=click.IntRange(1, 62), help="So many days from now; 14 without it.")
@json_option
@click.pass_obj
def upcoming(invocation: Invocation, agent_group: str | None, days: int | None, as_json: bool) -> None:
    """What is due in the next days, in its order."""
    rows = invocation.call("schedule.upcoming", agent_group=agent_group, days=days)
    present(rows, as_json, _show_upcoming)


def _show_upcoming(rows: list[dict[str, Any]]) -> None:
    print_table(rows, ("at", "schedule", "agent_group"), none="Nothing is due in these days.")
    for each in rows:
        if each.get("goes_on"):
            name, agent, at = (plain(str(each[key])) for key in ("schedule", "agent_group", "at"))
            click.echo(f"'{name}' of {agent} is due more often than is shown: here until {at}.")


@schedule.command("show")
@click.argument("schedule")
@_of_agent
@json_option
@click.pass_obj
def show(invocation: Invocation, schedule: str, agent_group: str | None, as_json: bool) -> None:
    """One schedule, and its last runs."""
    found = invocation.call("schedule.show", name=schedule, agent_group=agent_group)
    present(found, as_json, _show)


@schedule.command("set")
@click.argument("schedule")
@_of_agent
@click.option("--when", metavar="WHEN", help="Another time, as for `add`.")
@click.option("--prompt", metavar="TEXT", help="What the agent is told.")
@click.option("--name", "new_name", metavar="NAME", help="What it is called from now on.")
@_rules
@click.option(
    "--unset", multiple=True, type=click.Choice(UNSET), metavar="FIELD", help=f"Take away: {', '.join(UNSET)}."
)
@json_option
@click.pass_obj
def change(
    invocation: Invocation,
    /,
    schedule: str,
    agent_group: str | None,
    check: BinaryIO | None,
    unset: tuple[str, ...],
    as_json: bool,
    **rules: Any,
) -> None:
    """Change a schedule. One that is over begins anew with another time."""
    changed = invocation.call(
        "schedule.set",
        name=schedule,
        agent_group=agent_group,
        check=_script(check),
        unset=[field.replace("-", "_") for field in unset] or None,
        **rules,
    )
    present(changed, as_json, _show)


@schedule.command("pause")
@click.argument("schedule")
@_of_agent
@json_option
@click.pass_obj
def pause(invocation: Invocation, schedule: str, agent_group: str | None, as_json: bool) -> None:
    """Let a schedule rest. A run that goes on is not stopped."""
    present(invocation.call("schedule.pause", name=schedule, agent_group=agent_group), as_json, _show_short)


@schedule.command("resume")
@click.argument("schedule")
@_of_agent
@json_option
@click.pass_obj
def resume(invocation: Invocation, schedule: str, agent_group: str | None, as_json: bool) -> None:
    """Let a paused schedule run again. What was due meanwhile is not made up for."""
    present(invocation.call("schedule.resume", name=schedule, agent_group=agent_group), as_json, _show_short)


@schedule.command("cancel")
@click.argument("schedule")
@_of_agent
@json_option
@click.pass_obj
def cancel(invocation: Invocation, schedule: str, agent_group: str | None, as_json: bool) -> None:
    """End a schedule for good. Its log stays."""
    present(invocation.call("schedule.cancel", name=schedule, agent_group=agent_group), as_json, _show_short)


@schedule.command("run")
@click.argument("schedule")
@_of_agent
@json_option
@click.pass_obj
def run(invocation: Invocation, schedule: str, agent_group: str | None, as_json: bool) -> None:
    """Begin a run now, besides its times. Without a running host it begins with the next one."""
    begun = invocation.call("schedule.run", name=schedule, agent_group=agent_group)
    present(begun, as_json, lambda begun: print_fields(begun, ("schedule", "state", "session_id")))


@schedule.command("log")
@click.argument("schedule", required=False)
@_of_agent
@click.option("--state", metavar="STATE", help="Only with this state, such as failed.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, metavar="N", help="At most so many."
)
@json_option
@click.pass_obj
def log(
    invocation: Invocation, schedule: str | None, agent_group: str | None, state: str | None, limit: int, as_json: bool
) -> None:
    """The runs of a schedule, or of all, the newest first."""
    rows = invocation.call("schedule.log", name=schedule, agent_group=agent_group, state=state, limit=limit)
    present(rows, as_json, _show_log)


@click.command("pause", cls=Command)
@json_option
@click.pass_obj
def pause_all(invocation: Invocation, as_json: bool) -> None:
    """Pause everything that runs by itself. What goes on is not stopped."""
    present(invocation.call("schedule.pause_all"), as_json, show_acting)


@click.command("resume", cls=Command)
@json_option
@click.pass_obj
def resume_all(invocation: Invocation, as_json: bool) -> None:
    """Let everything run by itself again. What was due meanwhile is not made up for."""
    present(invocation.call("schedule.resume_all"), as_json, show_acting)


def show_acting(acting: dict[str, Any]) -> None:
    """What acts by itself, and what that has used in a week."""
    if acting["paused"] is not None:
        paused = acting["paused"]
        click.echo(
            f"Everything that runs by itself is paused since {moment(paused['since'])}, by {paused['by']}. "
            "`dumbwaiter resume` lets it run again."
        )
    elif acting["active"]:
        following = f", the next at {moment(acting['next_at'])}" if acting["next_at"] else ""
        are = (
            "1 schedule runs by itself" if acting["active"] == 1 else f"{acting['active']} schedules run by themselves"
        )
        click.echo(f"{are}{following}.")
    else:
        click.echo("Nothing runs by itself.")
    if acting["week"]:
        click.echo(f"In the last 7 days: {acting['week_tokens']:,} tokens, {acting['week_usd']:.4f} US dollars.")
        print_table([row | {"cost": f"{row['cost_usd']:.4f}"} for row in acting["week"]], WEEK_COLUMNS, none="")


def _script(file: BinaryIO | None) -> str | None:
    return None if file is None else decoded(file.read())


def _show(found: dict[str, Any]) -> None:
    print_fields(found, [field for field in FIELDS if found.get(field) is not None])
    if found.get("log"):
        click.echo()
        _show_log(found["log"])


def _show_short(found: dict[str, Any]) -> None:
    print_fields(found, ("name", "status", "why", "when", "next"))


def _show_log(rows: list[dict[str, Any]]) -> None:
    shown = [row | {"cost": f"{row['cost_usd']:.4f}" if row["cost_usd"] else None} for row in rows]
    print_table(shown, LOG_COLUMNS, none="It has not run yet.")
