"""`dumbwaiter session title`: what a conversation is called."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Command, json_option
from host.cli.invocation import Invocation
from host.cli.output import present
from host.cli.plain import one_line


@click.command("title", cls=Command)
@click.argument("session")
@click.argument("title", required=False)
@click.option("--clear", is_flag=True, help="Take the title away; no automatic one comes in its place.")
@click.option("--next", "following", is_flag=True, help="When another session has it, take TITLE #2, TITLE #3, …")
@json_option
@click.pass_obj
def title(invocation: Invocation, session: str, title: str | None, clear: bool, following: bool, as_json: bool) -> None:
    """Give a session a title, or say which one it has."""
    if clear and title is not None:
        raise click.UsageError("Give a title or --clear, not both")
    now = invocation.call(
        "session.title", session=session, title=title, clear=clear or None, following=following or None
    )
    if now.get("cut"):
        click.echo("The title was cut: it can have 100 characters.", err=True)
    present(now, as_json, _show)


def _show(now: dict[str, Any]) -> None:
    if now["title"] is not None:
        click.echo(one_line(now["title"]))
