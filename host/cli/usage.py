"""`dumbwaiter usage`: tokens and cost."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Command, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_table

WAYS = ("day", "model", "session", "agent-group", "turn")
NUMBERS = (
    "turns", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
    "cost_usd", "called_tokens", "called_usd",
)  # fmt: skip
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
    name = report["by"].replace("-", "_")
    total = report["total"]
    rows = [*report["rows"], {name: "total", **total}] if report["rows"] else []
    columns = (name, *(column for column in NUMBERS if column in ALWAYS or total[column]))
    shown = [row | {column: f"{row[column] or 0:.4f}" for column in DOLLARS} for row in rows]
    print_table(shown, columns, none="Nothing was used.")
