"""`dumbwaiter web`: the page in the browser, and the browsers that are signed in."""

from __future__ import annotations

import webbrowser
from typing import Any

import click

from host.api.client import NoHost
from host.cli.command import Command, json_option
from host.cli.invocation import Invocation
from host.cli.output import on_terminal, present, print_table
from host.cli.table import Column
from host.start_line import start_line

COLUMNS = (
    Column("id"),
    Column("user", cut=True),
    Column("browser", cut=True, spare=1),
    Column("last_seen"),
    Column("expires_at"),
)


@click.command("web", cls=Command)
@click.option("--user", metavar="USER", help="Sign this user in, such as web:ann; without it the owner.")
@click.option("--open/--no-open", "opens", default=None, help="Whether the link is opened; it is, on a terminal.")
@click.option("--list", "lists", is_flag=True, help="List the browsers that are signed in.")
@click.option("--sign-out", metavar="ID", help="Sign this browser out, at once.")
@json_option
@click.pass_obj
def web(
    invocation: Invocation, user: str | None, opens: bool | None, lists: bool, sign_out: str | None, as_json: bool
) -> None:
    """Print a link that signs a browser in, and open it. It holds for ten minutes, and once."""
    if sign_out is not None:
        done = invocation.call("web.sign_out", id=sign_out)
        present(done, as_json, lambda done: click.echo(f"Signed out: {done['signed_out']} of {done['user']}."))
    elif lists:
        rows = invocation.call("web.list")
        present(rows, as_json, lambda rows: print_table(rows, COLUMNS, none="No browser is signed in."))
    else:
        link = _link(invocation, user)
        present(link, as_json, _show)
        if opens if opens is not None else on_terminal() and not as_json:
            webbrowser.open(link["url"])


def _link(invocation: Invocation, user: str | None) -> dict[str, Any]:
    try:
        link: dict[str, Any] = invocation.client().call("web.link", {} if user is None else {"user": user})
    except NoHost as error:
        line = start_line(invocation.data)
        raise NoHost(
            "no host runs that could serve the page", where=invocation.data, hint=f"start it: {line}"
        ) from error
    return link


def _show(link: dict[str, Any]) -> None:
    click.echo(link["url"])
