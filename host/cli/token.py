"""`dumbwaiter token`: what programs call the host with over HTTP (docs/api.md)."""

from __future__ import annotations

from typing import Any

import click

from host.cli.agent_group import PERIODS
from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields, print_table
from host.cli.session_lifecycle import Age
from host.cli.table import Column

COLUMNS = (
    Column("name", cut=True),
    Column("rights"),
    Column("agent_group", cut=True),
    Column("used_usd"),
    Column("budget_usd"),
    Column("used_tokens"),
    Column("budget_tokens"),
    Column("expires_at"),
    Column("last_used"),
)
RIGHTS = ("read", "talk", "admin")


@click.group("token", cls=Group)
def token() -> None:
    """Tokens with which programs call the host over HTTP."""


@token.command("add")
@click.argument("name")
@click.option("--agent-group", metavar="NAME", help="It sees and uses this agent alone; without this all of them.")
@click.option("--rights", type=click.Choice(RIGHTS), help="What it may do; without this: talk.")
@click.option("--budget-usd", type=click.FloatRange(min=0, min_open=True), help="It may spend so many US dollars.")
@click.option("--budget-tokens", type=click.IntRange(min=1), help="The same in tokens of models.")
@click.option(
    "--budget-period", type=click.Choice(PERIODS), help="The period of its budgets, in UTC; without this: month."
)
@click.option("--expires", type=Age(), metavar="AGE", help="It holds for so long: 12h, 90d, 6w or 1y.")
@json_option
@click.pass_obj
def add(
    invocation: Invocation,
    name: str,
    agent_group: str | None,
    rights: str | None,
    budget_usd: float | None,
    budget_tokens: int | None,
    budget_period: str | None,
    expires: float | None,
    as_json: bool,
) -> None:
    """Make a token, and print it: it is shown this once."""
    made = invocation.call(
        "token.add",
        name=name,
        agent_group=agent_group,
        rights=rights,
        budget_usd=budget_usd,
        budget_tokens=budget_tokens,
        budget_period=budget_period,
        expires_days=expires,
    )
    present(made, as_json, _show)


@token.command("list")
@json_option
@click.pass_obj
def list_all(invocation: Invocation, as_json: bool) -> None:
    """The tokens there are, what they used, and when they were used last."""
    present(
        invocation.call("token.list"),
        as_json,
        lambda rows: print_table(rows, COLUMNS, none="There are no tokens: `dumbwaiter token add NAME` makes one."),
    )


@token.command("revoke")
@click.argument("name")
@json_option
@click.pass_obj
def revoke(invocation: Invocation, name: str, as_json: bool) -> None:
    """End a token, at once. What was said with it stays."""
    present(invocation.call("token.revoke", name=name), as_json, lambda done: print_fields(done, ("revoked",)))


def _show(made: dict[str, Any]) -> None:
    """The token by itself, so that a script can take it; what to do with it beside it."""
    click.echo(made["token"])
    address = made.get("address")
    if address is None:
        click.echo("It is shown this once. The host serves its API when it is started.", err=True)
        return
    click.echo(
        f"It is shown this once. Try it: curl {address}/v1/models -H 'Authorization: Bearer {made['token']}'", err=True
    )
