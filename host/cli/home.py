"""`dumbwaiter home`: the chat of each platform in which an agent group is at home."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields, print_table

FIELDS = ("agent_group", "channel_type", "messaging_group", "name")


@click.group("home", cls=Group)
def home() -> None:
    """Where an agent group is at home: one chat on each platform.

    The agent is told; it writes there when it writes without having been asked.
    """


@home.command("set")
@click.argument("agent_group")
@click.argument("messaging_group")
@json_option
@click.pass_obj
def set_home(invocation: Invocation, agent_group: str, messaging_group: str, as_json: bool) -> None:
    """Make a chat the home of an agent group on its platform, in place of the one before.

    At home an agent says what no chat has asked for, such as what a schedule found.
    """
    made = invocation.call("home.set", agent_group=agent_group, messaging_group=messaging_group)
    present(made, as_json, _show)


@home.command("list")
@click.argument("agent_group", required=False)
@json_option
@click.pass_obj
def list_all(invocation: Invocation, agent_group: str | None, as_json: bool) -> None:
    """The homes of one agent group, or of all."""
    present(
        invocation.call("home.list", agent_group=agent_group),
        as_json,
        lambda rows: print_table(
            rows, FIELDS, none="There are no home channels: `dumbwaiter home set AGENT CHAT` makes one."
        ),
    )


@home.command("remove")
@click.argument("agent_group")
@click.argument("channel_type")
@json_option
@click.pass_obj
def remove(invocation: Invocation, agent_group: str, channel_type: str, as_json: bool) -> None:
    """Take the home on a platform away."""
    present(
        invocation.call("home.remove", agent_group=agent_group, channel_type=channel_type),
        as_json,
        lambda done: print_fields(done, ("removed",)),
    )


def _show(made: dict[str, Any]) -> None:
    print_fields(made, FIELDS)
