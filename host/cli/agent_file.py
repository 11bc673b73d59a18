"""`dumbwaiter agent-group file`: an agent's instructions, memory and skills."""

from __future__ import annotations

from typing import IO, Any

import click

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.names import agent_groups
from host.cli.output import cell, present, print_fields, print_table
from host.cli.table import Column

COLUMNS = (Column("path", cut=True), Column("kind"), Column("bytes"), Column("revision"), Column("problem", cut=True))
_SIGNS = {"added": "+", "removed": "-", "place": "", "same": " "}


@click.group("file", cls=Group)
def file() -> None:
    """What an agent is told by files: its instructions, memory and skills."""


@file.command("list")
@click.argument("name", shell_complete=agent_groups)
@json_option
@click.pass_obj
def list_all(invocation: Invocation, name: str, as_json: bool) -> None:
    """The files from which an agent is told."""
    rows = invocation.call("agent_file.list", agent_group=name)
    present(rows, as_json, lambda rows: print_table(rows, COLUMNS, none="It has no such files."))


@file.command("show")
@click.argument("name", shell_complete=agent_groups)
@click.argument("path")
@json_option
@click.pass_obj
def show(invocation: Invocation, name: str, path: str, as_json: bool) -> None:
    """Print one of them; --json has its revision as well."""
    shown = invocation.call("agent_file.show", agent_group=name, path=path)
    present(shown, as_json, lambda shown: click.echo(shown["text"], nl=not shown["text"].endswith("\n")))


@file.command("set")
@click.argument("name", shell_complete=agent_groups)
@click.argument("path")
@click.option("--from", "source", type=click.File("r", encoding="utf-8"), default="-", help="The new text; - reads it.")
@click.option("--revision", metavar="REVISION", help="Write only if the file has this revision now.")
@click.option("--only-look", is_flag=True, help="Show what would change, and change nothing.")
@json_option
@click.pass_obj
def change(
    invocation: Invocation,
    name: str,
    path: str,
    source: IO[str],
    revision: str | None,
    only_look: bool,
    as_json: bool,
) -> None:
    """Write one of them, for the next turn, and show what changes."""
    text = source.read()
    if revision is None and not only_look:
        revision = invocation.call("agent_file.show", agent_group=name, path=path)["revision"]
    given = {"agent_group": name, "path": path, "text": text, "revision": revision, "only_look": only_look}
    present(invocation.call("agent_file.set", **given), as_json, _show_difference)


@file.command("remove")
@click.argument("name", shell_complete=agent_groups)
@click.argument("path")
@click.option("--revision", metavar="REVISION", help="Remove it only if it has this revision now.")
@json_option
@click.pass_obj
def remove(invocation: Invocation, name: str, path: str, revision: str | None, as_json: bool) -> None:
    """Remove one of them."""
    if revision is None:
        revision = invocation.call("agent_file.show", agent_group=name, path=path)["revision"] or ""
    done = invocation.call("agent_file.remove", agent_group=name, path=path, revision=revision)
    present(done, as_json, lambda done: print_fields(done, ("removed",)))


def _show_difference(done: dict[str, Any]) -> None:
    for line in done["diff"]:
        click.echo(f"{_SIGNS[line['kind']]}{cell(line['text'])}")
    if not done["diff"]:
        click.echo("Nothing changes.")
