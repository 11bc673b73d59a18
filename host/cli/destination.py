"""`dumbwaiter destination`: where an agent group may send besides the chat it answers in: chats and other agents."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields, print_table

FIELDS = ("agent_group", "name", "messaging_group", "display_name")


@click.group("destination", cls=Group)
def destination() -> None:
    """Where an agent group may send.

    It may always answer where a message came from; a destination is a name for another chat, or for another agent.
    """


@destination.command("add")
@click.argument("agent_group")
@click.argument("name")
@click.argument("messaging_group")
@json_option
@click.pass_obj
def add(invocation: Invocation, agent_group: str, name: str, messaging_group: str, as_json: bool) -> None:
    """Let an agent group send to a messaging group, or to another agent (agent:NAME), under a name."""
    added = invocation.call("destination.add", agent_group=agent_group, name=name, messaging_group=messaging_group)
    present(added, as_json, _show)


@destination.command("list")
@click.argument("agent_group", required=False)
@json_option
@click.pass_obj
def list_all(invocation: Invocation, agent_group: str | None, as_json: bool) -> None:
    """The destinations of one agent group, or of all."""
    present(
        invocation.call("destination.list", agent_group=agent_group),
        as_json,
        lambda rows: print_table(
            rows, FIELDS, none="There are no destinations: `dumbwaiter destination add AGENT NAME CHAT` makes one."
        ),
    )


@destination.command("remove")
@click.argument("agent_group")
@click.argument("name")
@json_option
@click.pass_obj
def remove(invocation: Invocation, agent_group: str, name: str, as_json: bool) -> None:
    """Take a destination away."""
    present(
        invocation.call("destination.remove", agent_group=agent_group, name=name),
        as_json,
        lambda done: print_fields(done, ("removed",)),
    )


def _show(added: dict[str, Any]) -> None:
    print_fields(added, FIELDS)
