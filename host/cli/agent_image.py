"""`dumbwaiter agent-group image`: the images with packages that were installed for an agent group."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.names import agent_groups
from host.cli.output import present, print_fields, print_table
from host.cli.table import Column

COLUMNS = (
    Column("number"),
    Column("in_use", "used"),
    Column("state"),
    Column("apt", cut=True),
    Column("pip", cut=True),
    Column("created_at", "asked"),
    Column("why", cut=True, spare=1),
)


@click.group("image", cls=Group)
def image() -> None:
    """Images with the packages that agents had installed."""


@image.command("history")
@click.argument("name", shell_complete=agent_groups)
@json_option
@click.pass_obj
def history(invocation: Invocation, name: str, as_json: bool) -> None:
    """The images that were built for an agent group, the newest first, and those that could not be."""
    present(
        invocation.call("agent_image.list", name=name),
        as_json,
        lambda rows: print_table(
            [_row(row) for row in rows], COLUMNS, none=f"No packages were ever installed for {name}."
        ),
    )


@image.command("log")
@click.argument("name", shell_complete=agent_groups)
@click.argument("number", type=click.IntRange(min=1))
@json_option
@click.pass_obj
def log(invocation: Invocation, name: str, number: int, as_json: bool) -> None:
    """What the build of an image printed, the end of it."""
    present(
        invocation.call("agent_image.log", name=name, number=number),
        as_json,
        lambda found: click.echo(found.get("log") or "It printed nothing."),
    )


@image.command("rollback")
@click.argument("name", shell_complete=agent_groups)
@click.argument("number", type=click.IntRange(min=0), required=False)
@json_option
@click.pass_obj
def rollback(invocation: Invocation, name: str, number: int | None, as_json: bool) -> None:
    """Go back to an earlier image: the one before the present, or that of a number; 0 is the one without packages.

    Agents that run give back their turns and start with it.
    """
    present(
        invocation.call("agent_image.rollback", name=name, number=number),
        as_json,
        lambda found: print_fields(_row(found), ("agent_group", "number", "apt", "pip")),
    )


def _row(found: dict[str, Any]) -> dict[str, Any]:
    return found | {name: " ".join(found.get(name) or []) or None for name in ("apt", "pip")}
