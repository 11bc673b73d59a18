"""`dumbwaiter events`: what happens to conversations, as live views are told."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any

import click

from host.api.client import NoHost
from host.cli.command import Command, json_option
from host.cli.invocation import Invocation
from host.cli.output import cell, present, print_table
from host.cli.plain import as_json as to_json
from host.cli.table import Column

COLUMNS = (
    Column("number"),
    Column("at"),
    Column("kind"),
    Column("session_id", "session", cut=True, spare=1),
    Column("data", cut=True),
)


@click.command("events", cls=Command)
@click.option("--follow", "-f", is_flag=True, help="Then each one as it comes. Ctrl-C leaves.")
@click.option("--session", metavar="SESSION", help="Only those of this session.")
@click.option("--after", type=click.IntRange(min=0), metavar="NUMBER", help="Only those behind this number.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, before those that are followed.")
@json_option
@click.pass_obj
def events(
    invocation: Invocation, follow: bool, session: str | None, after: int | None, limit: int | None, as_json: bool
) -> None:
    """What happened to conversations, the newest last.

    The newest ten thousand are kept. With --follow and --json one object on each line.
    """
    found = invocation.call("events", session=session, after=after, limit=limit)
    if not follow:
        present(found, as_json, lambda rows: print_table(rows, COLUMNS, none="Nothing has happened yet."))
        return
    for event in found:
        _print_now(event, as_json)
    last = found[-1]["number"] if found else after
    try:
        with closing(invocation.stream("events", session=session, after=last or 0)) as coming:
            for event in coming:
                _print_now(event, as_json)
    except KeyboardInterrupt:
        return
    except NoHost:
        click.echo("No host is running, so nothing new will come.", err=True)


def _print_now(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(to_json(event, indent=None))
    else:
        click.echo("  ".join(cell(event.get(column.key)) for column in COLUMNS))
    sys.stdout.flush()
