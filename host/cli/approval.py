"""`dumbwaiter approval`: what waits for a decision."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields, print_table
from host.cli.plain import plain
from host.cli.table import Column

COLUMNS = (
    Column("code"),
    Column("kind", spare=1),
    Column("summary", "about", cut=True),
    Column("state"),
    Column("created_at", "asked"),
    Column("decided_by", "decided by", cut=True, spare=2),
)


@click.group("approval", cls=Group)
def approval() -> None:
    """What waits for a decision: strangers who ask to be let in, chats that ask for an agent."""


@approval.command("list")
@click.option(
    "--state",
    type=click.Choice(["pending", "approved", "denied", "expired", "all"]),
    default="pending",
    show_default=True,
    help="Only with this state.",
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, metavar="N", help="At most so many."
)
@json_option
@click.pass_obj
def list_all(invocation: Invocation, state: str, limit: int, as_json: bool) -> None:
    """Approvals, the newest first."""
    rows = invocation.call("approval.list", state=state, limit=limit)
    none = "Nothing waits for a decision." if state == "pending" else "There are none."
    present(rows, as_json, lambda rows: print_table(rows, COLUMNS, none=none))


@approval.command("show")
@click.argument("code")
@json_option
@click.pass_obj
def show(invocation: Invocation, code: str, as_json: bool) -> None:
    """One approval, as those who decide see it."""
    present(invocation.call("approval.show", code=code), as_json, _show)


@approval.command("approve")
@click.argument("code")
@click.argument("choice", required=False)
@json_option
@click.pass_obj
def approve(invocation: Invocation, code: str, choice: str | None, as_json: bool) -> None:
    """Say yes; with CHOICE (its number or its name) where there are several."""
    present(invocation.call("approval.approve", code=code, choice=choice), as_json, _outcome)


@approval.command("deny")
@click.argument("code")
@json_option
@click.pass_obj
def deny(invocation: Invocation, code: str, as_json: bool) -> None:
    """Say no."""
    present(invocation.call("approval.deny", code=code), as_json, _outcome)


def _show(approval: dict[str, Any]) -> None:
    if approval["state"] == "pending" and "card" in approval:
        click.echo(plain(approval["card"]))
    else:
        print_fields(
            approval | approval["arguments"], (*approval["arguments"], "state", "decided_at", "decided_by", "outcome")
        )


def _outcome(done: dict[str, Any]) -> None:
    print_fields(done, ("code", "state", "outcome"))
