"""`dumbwaiter messaging-group`: the chats."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Group, json_option
from host.cli.confirm import confirm, yes_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields, print_table
from host.cli.table import Column

LIST_COLUMNS = (
    Column("address", cut=True),
    Column("name", cut=True),
    Column("is_group", "group", spare=1),
    Column("unknown_sender", "strangers", spare=2),
    Column("agent_groups", "served by", cut=True),
)
FIELDS = (
    "address", "id", "channel_type", "platform_id", "name", "is_group", "timezone", "unknown_sender", "agent_groups",
    "created_at",
)  # fmt: skip

timezone_option = click.option(
    "--timezone", metavar="ZONE", help="Its time zone, such as Europe/Berlin; '': the setting."
)
unknown_sender_option = click.option(
    "--unknown-sender",
    type=click.Choice(["strict", "pair", "public"]),
    help="Strangers: not heard, asked about, or heard. Without it pair in direct chats, strict in groups.",
)


@click.group("messaging-group", cls=Group)
def messaging_group() -> None:
    """Chats, written <channel_type>:<platform_id>.

    A direct message, a group or a channel on some platform.
    """


@messaging_group.command("add")
@click.argument("address")
@click.option("--name", help="A name for people.")
@click.option("--group/--dm", "is_group", default=None, help="Whether several people write there; --dm: one.")
@timezone_option
@unknown_sender_option
@json_option
@click.pass_obj
def add(
    invocation: Invocation,
    address: str,
    name: str | None,
    is_group: bool | None,
    timezone: str | None,
    unknown_sender: str | None,
    as_json: bool,
) -> None:
    """Add a messaging group (a chat). Wire it to an agent group (an agent) next, which then answers there."""
    group = invocation.call(
        "messaging_group.add",
        address=address,
        name=name,
        is_group=is_group,
        timezone=timezone,
        unknown_sender=unknown_sender,
    )
    present(group, as_json, _show)


@messaging_group.command("list")
@json_option
@click.pass_obj
def list_all(invocation: Invocation, as_json: bool) -> None:
    """All messaging groups, by address."""
    present(
        invocation.call("messaging_group.list"),
        as_json,
        lambda groups: print_table(
            groups,
            LIST_COLUMNS,
            none="There are no messaging groups: `dumbwaiter messaging-group add ADDRESS` makes one.",
        ),
    )


@messaging_group.command("show")
@click.argument("address")
@json_option
@click.pass_obj
def show(invocation: Invocation, address: str, as_json: bool) -> None:
    """One messaging group, and the agent groups that serve it."""
    present(invocation.call("messaging_group.show", address=address), as_json, _show)


@messaging_group.command("set")
@click.argument("address")
@click.option("--name", help="A name for people.")
@click.option("--group/--dm", "is_group", default=None, help="Whether several people write there; --dm: one.")
@timezone_option
@unknown_sender_option
@json_option
@click.pass_obj
def set_values(
    invocation: Invocation,
    address: str,
    name: str | None,
    is_group: bool | None,
    timezone: str | None,
    unknown_sender: str | None,
    as_json: bool,
) -> None:
    """Change a messaging group."""
    if name is None and is_group is None and timezone is None and unknown_sender is None:
        raise click.UsageError("There is nothing to change: give at least one option")
    group = invocation.call(
        "messaging_group.set",
        address=address,
        name=name,
        is_group=is_group,
        timezone=timezone,
        unknown_sender=unknown_sender,
    )
    present(group, as_json, _show)


@messaging_group.command("rename")
@click.argument("address")
@click.argument("name")
@json_option
@click.pass_obj
def rename(invocation: Invocation, address: str, name: str, as_json: bool) -> None:
    """Give a messaging group another name for people; '' takes the name away. Its address stays."""
    present(invocation.call("messaging_group.set", address=address, name=name), as_json, _show)


@messaging_group.command("remove")
@click.argument("address")
@yes_option
@json_option
@click.pass_obj
def remove(invocation: Invocation, address: str, yes: bool, as_json: bool) -> None:
    """Remove a messaging group with its wirings, and the destinations that point at it. Its sessions stay.

    It asks first, unless there is --yes.
    """
    if not yes:
        group = invocation.call("messaging_group.show", address=address)
        served = f" and its wirings to {', '.join(group['agent_groups'])}" if group["agent_groups"] else ""
        confirm(f"The messaging group {address}{served} will be removed.", yes)
    present(
        invocation.call("messaging_group.remove", address=address),
        as_json,
        lambda done: print_fields(done, ("removed",)),
    )


def _show(group: dict[str, Any]) -> None:
    print_fields(group, FIELDS)
