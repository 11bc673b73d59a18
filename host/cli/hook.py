"""`dumbwaiter hook`: programs that are told of events by signed requests (docs/api.md)."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields, print_table
from host.cli.table import Column

COLUMNS = (
    Column("name", cut=True),
    Column("url", cut=True, spare=1),
    Column("agent_group", cut=True, spare=2),
    Column("waiting"),
    Column("delivered"),
    Column("missed"),
    Column("last_error", "what went wrong", cut=True),
)


@click.group("hook", cls=Group)
def hook() -> None:
    """Programs that are told of events by signed requests."""


@hook.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--event", "kinds", metavar="KIND", multiple=True, help="Only events of this kind; repeatable.")
@click.option("--agent-group", metavar="NAME", help="Only events of this agent group.")
@json_option
@click.pass_obj
def add(
    invocation: Invocation, name: str, url: str, kinds: tuple[str, ...], agent_group: str | None, as_json: bool
) -> None:
    """Post events to a URL, and print the secret that signs them: it is shown this once."""
    made = invocation.call("hook.add", name=name, url=url, kinds=list(kinds) or None, agent_group=agent_group)
    present(made, as_json, _show)


@hook.command("list")
@json_option
@click.pass_obj
def list_all(invocation: Invocation, as_json: bool) -> None:
    """The hooks there are, what waits for each, and what went wrong last."""
    present(
        invocation.call("hook.list"),
        as_json,
        lambda rows: print_table(rows, COLUMNS, none="There are no hooks: `dumbwaiter hook add NAME URL` makes one."),
    )


@hook.command("remove")
@click.argument("name")
@json_option
@click.pass_obj
def remove(invocation: Invocation, name: str, as_json: bool) -> None:
    """Post no more events there."""
    present(invocation.call("hook.remove", name=name), as_json, lambda done: print_fields(done, ("removed",)))


@hook.command("test")
@click.argument("name")
@json_option
@click.pass_obj
def test(invocation: Invocation, name: str, as_json: bool) -> None:
    """Post a test to a hook, once, and say whether it was taken."""
    present(
        invocation.call("hook.test", name=name),
        as_json,
        lambda done: print_fields(done, ("name", "taken", "error")),
    )


def _show(made: dict[str, Any]) -> None:
    """The secret by itself, so that a script can take it; what to do with it beside it."""
    click.echo(made["secret"])
    click.echo(f"It is shown this once. Try it: dumbwaiter hook test {made['name']}", err=True)
