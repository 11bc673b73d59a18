"""`dumbwaiter session sql`: a look into both files of a session that runs nothing of the agent's."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Command, json_option
from host.cli.invocation import Invocation
from host.cli.output import cell, print_json, print_table

_WIDEST = 1_000


@click.command("sql", cls=Command)
@click.argument("session")
@click.argument("query")
@click.option("--limit", type=click.IntRange(1, 10_000), help="At most so many rows; 1000 without it.")
@json_option
@click.pass_obj
def sql(invocation: Invocation, session: str, query: str, limit: int | None, as_json: bool) -> None:
    """Ask both files of a session at once: QUERY is one `select`.

    The tables are those of inbound.db and outbound.db. Nothing that an agent put into its file is run, nothing can be
    changed, and the query has five seconds.
    """
    answer = invocation.call("session.sql", session=session, query=query, limit=limit)
    for note in answer["notes"]:
        click.echo(f"Note: {cell(note)}.", err=True)
    if not answer["complete"]:
        click.echo("There are more rows: --limit says how many are shown.", err=True)
    if as_json:
        print_json(answer["rows"])
        return
    print_table([_shortened(row) for row in answer["rows"]], answer["columns"], none="There are no such rows.")


def _shortened(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: f"{value[:_WIDEST]}…" if isinstance(value, str) and len(value) > _WIDEST else value
        for name, value in row.items()
    }
