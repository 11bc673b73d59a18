"""`dumbwaiter logs`: the last lines of the running host's log."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Command, json_option
from host.cli.invocation import Invocation
from host.cli.output import cell, present

_PLAIN = ("time", "level", "event", "logger", "traceback")


@click.command("logs", cls=Command)
@click.option("--session", metavar="SESSION", help="Lines about this session alone.")
@click.option("--level", type=click.Choice(("debug", "info", "warning", "error")), help="At least this; else info.")
@click.option("--limit", type=click.IntRange(1, 1000), help="So many lines; 200 without it.")
@json_option
@click.pass_obj
def logs(invocation: Invocation, session: str | None, level: str | None, limit: int | None, as_json: bool) -> None:
    """The last lines of the host's log, since its start. What its agents printed: `session logs`."""
    present(invocation.call("host_log.list", session=session, level=level, limit=limit), as_json, _show)


def _show(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        fields = "  ".join(f"{name}={cell(value)}" for name, value in line.items() if name not in _PLAIN)
        level = "" if line["level"] in ("info", "debug") else f"{line['level']}: "
        click.echo(f"{line['time']} {level}{cell(line['event'])}{'  ' if fields else ''}{fields}")
        if "traceback" in line:
            click.echo("\n".join(cell(each) for each in str(line["traceback"]).splitlines()))
    if not lines:
        click.echo("Nothing was logged.")
