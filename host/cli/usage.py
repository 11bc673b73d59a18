"""`dumbwaiter usage`: tokens and cost."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Command, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_table
from host.cli.schedule import show_acting
from host.cli.table import Column

WAYS = ("day", "model", "session", "agent-group", "turn")
NUMBERS = {
    column.key: column
    for column in (
        Column("turns"),
        Column("input_tokens", "in"),
        Column("output_tokens", "out"),
        Column("cache_read_tokens", "cache read", spare=2),
        Column("cache_write_tokens", "cache write", spare=3),
        Column("reasoning_tokens", "reasoning", spare=4),
        Column("cost_usd", "usd"),
        Column("called_tokens", "called", spare=5),
        Column("called_usd", "called usd", spare=6),
    )
}
ALWAYS = ("turns", "cost_usd")
DOLLARS = ("cost_usd", "called_usd")


@click.command("usage", cls=Command)
@click.option("--by", type=click.Choice(WAYS), default="day", show_default=True, help="What to add up by.")
@click.option("--agent-group", metavar="NAME", help="Only of this agent group.")
@click.option("--session", metavar="SESSION", help="Only of this session.")
@click.option("--since", metavar="DATE", help="From this day on, such as 2026-02-28 (UTC).")
@click.option("--until", metavar="DATE", help="Up to and with this day.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many rows, the newest.")
@json_option
@click.pass_obj
def usage(
    invocation: Invocation,
    by: str,
    agent_group: str | None,
    session: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Tokens and cost in US dollars, and their total.

    What deleted sessions used stays known. What was called is what the gateway saw of it.
    """
    report = invocation.call(
        "usage", by=by, agent_group=agent_group, session=session, since=since, until=until, limit=limit
    )
    present(report, as_json, _show)


def _show(report: dict[str, Any]) -> None:
    name = {"session": "session_id", "turn": "turn_id"}.get(report["by"], report["by"].replace("-", "_"))
    total = report["total"]
    rows = [*report["rows"], {name: "total", **total}] if report["rows"] else []
    columns = [NUMBERS[column] for column in NUMBERS if column in ALWAYS or total[column]]
    shown = [row | {column: _dollars(row[column]) for column in DOLLARS} for row in rows]
    print_table(shown, [Column(name, cut=True), *columns], none="Nothing was used.")
    if (acting := report.get("schedules")) and (acting["active"] or acting["week"]):
        click.echo("\nWhat acts by itself")
        show_acting(acting)


def _dollars(amount: float | None) -> str | None:
    return None if amount is None else f"{amount:.4f}"
