"""`dumbwaiter quiet-hours`: when nothing that an agent says by itself is sent."""

from __future__ import annotations

import click

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields, print_table

FIELDS = ("of", "subject", "hours", "zone")
_of = click.option("--of", type=click.Choice(["chat", "user"]), help="Which is meant, where both are called so.")


@click.group("quiet-hours", cls=Group)
def quiet_hours() -> None:
    """When nothing that an agent says by itself is sent. It is held until they are over."""


@quiet_hours.command("set")
@click.argument("subject")
@click.argument("hours")
@click.option("--zone", metavar="ZONE", help="Their time zone, such as Europe/Berlin; else the chat's.")
@_of
@json_option
@click.pass_obj
def put(invocation: Invocation, subject: str, hours: str, zone: str | None, of: str | None, as_json: bool) -> None:
    """Set them for a chat, or for a user's direct chats.

    SUBJECT is a chat or a user, HOURS such as 22:00-07:00.
    """
    made = invocation.call("quiet_hours.set", subject=subject, hours=hours, zone=zone, of=of)
    present(made, as_json, lambda made: print_fields(made, FIELDS))


@quiet_hours.command("list")
@json_option
@click.pass_obj
def list_all(invocation: Invocation, as_json: bool) -> None:
    """All quiet hours."""
    present(
        invocation.call("quiet_hours.list"),
        as_json,
        lambda rows: print_table(
            rows, FIELDS, none="There are none: `dumbwaiter quiet-hours set CHAT 22:00-07:00` sets some."
        ),
    )


@quiet_hours.command("remove")
@click.argument("subject")
@_of
@json_option
@click.pass_obj
def remove(invocation: Invocation, subject: str, of: str | None, as_json: bool) -> None:
    """Take them away. What is held already stays held."""
    done = invocation.call("quiet_hours.remove", subject=subject, of=of)
    present(done, as_json, lambda done: print_fields(done, ("removed",)))
