"""`dumbwaiter node`: the machines on which agents run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from host.cli.command import Group, json_option
from host.cli.confirm import confirm, yes_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields, print_table
from host.cli.table import Column

NODE_COLUMNS = (
    Column("name"),
    Column("state"),
    Column("agents"),
    Column("max_agents", "most"),
    Column("labels", spare=1),
    Column("address", cut=True, spare=2),
    Column("reason", cut=True),
)
_RISK = (
    "Every agent on the node {name} counts as ended, and its messages are answered elsewhere. If it still runs, "
    "its agents go on: what they do outside of their conversations (in their workspaces, at services they reach) is "
    "done twice, and they write into workspaces that others use now. Say this only of a machine that is switched off "
    "or cut off for good."
)


def labels_of(texts: Sequence[str]) -> dict[str, str]:
    """The labels of `NAME=VALUE`. Raises `click.UsageError`."""
    found: dict[str, str] = {}
    for each in texts:
        name, equals, value = each.partition("=")
        if not equals or not name.strip():
            raise click.UsageError(f"'{each}' is no label: write NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


_NONE = "There are no nodes: `dumbwaiter node add NAME ssh://user@host` adds one."


@click.group("node", cls=Group)
def node() -> None:
    """Machines on which agents run, each with a docker engine of its own."""


@node.command("list")
@json_option
@click.pass_obj
def list_all(invocation: Invocation, as_json: bool) -> None:
    """All nodes: how each is, and how many agents run there."""
    present(invocation.call("node.list"), as_json, lambda rows: print_table(rows, NODE_COLUMNS, none=_NONE))


@node.command("add")
@click.argument("name")
@click.argument("address", required=False)
@click.option(
    "--label", "labels", metavar="NAME=VALUE", multiple=True, help="What it has, for --node-label; repeatable."
)
@click.option("--max-agents", type=click.IntRange(min=1), help="How many agents may run there; without this 10.")
@click.option("--certificate", type=click.Path(), help="File with this host's TLS certificate, for tcp://.")
@click.option("--key", type=click.Path(), help="File with the key of that certificate.")
@click.option("--authority", type=click.Path(), help="File with the certificate that signed the engine's.")
@json_option
@click.pass_obj
def add(
    invocation: Invocation,
    name: str,
    address: str | None,
    labels: tuple[str, ...],
    max_agents: int | None,
    certificate: str | None,
    key: str | None,
    authority: str | None,
    as_json: bool,
) -> None:
    """Add a node to dumbwaiter.toml, or take one back that was drained or lost.

    ADDRESS is its docker engine: ssh://user@host, tcp://host:2376 with files for
    TLS, or unix:///var/run/docker.sock for this machine. The engine is asked
    first. Without ADDRESS a node that is known takes agents again; one that was
    lost must answer, and what still runs there is ended.
    """
    parameters = {
        "address": address,
        "labels": labels_of(labels) or None,
        "max_agents": max_agents,
        "certificate": certificate,
        "key": key,
        "authority": authority,
    }
    given = {each: value for each, value in parameters.items() if value is not None}
    present(invocation.call("node.add", name=name, **given), as_json, _say_added)


@node.command("drain")
@click.argument("name")
@json_option
@click.pass_obj
def drain(invocation: Invocation, name: str, as_json: bool) -> None:
    """Place no more agents on a node; those that run go on until they rest.

    `dumbwaiter node add NAME` takes it back.
    """
    present(invocation.call("node.drain", name=name), as_json, _say_drained)


@node.command("lost")
@click.argument("name")
@yes_option
@json_option
@click.pass_obj
def lost(invocation: Invocation, name: str, yes: bool, as_json: bool) -> None:
    """Say that a node is gone for good: what ran there has ended.

    A node that answers is refused. It asks first, unless there is --yes.
    """
    if not yes:
        confirm(_RISK.format(name=name), yes)
    present(invocation.call("node.lost", name=name), as_json, _say_lost)


@node.command("check")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def check(invocation: Invocation, name: str | None, as_json: bool) -> None:
    """Ask nodes what agents need: the engine, the image, the data folder."""
    found = invocation.call("node.check", **({} if name is None else {"name": name}))
    present(
        found, as_json, lambda rows: print_table(rows, ("name", "is_good", "engine", "problem", "hint"), none=_NONE)
    )


def _say_added(made: dict[str, Any]) -> None:
    print_fields(made, ("name", "state", "address", "agents", "max_agents", "labels"))
    if made["next"]:
        click.echo(made["next"], err=True)


def _say_drained(done: dict[str, Any]) -> None:
    click.echo(f"{done['name']} takes no more agents; {done['agents']} run there still, until they rest.")


def _say_lost(done: dict[str, Any]) -> None:
    click.echo(f"{done['name']} counts as lost; {done['sessions']} conversations go on elsewhere.")
    click.echo(f"When the machine is back, `dumbwaiter node add {done['name']}` takes it into service again.", err=True)
