"""`dumbwaiter channel`: bots on chat platforms."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from typing import Any

import click

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields, print_table
from host.cli.status import CHANNEL_COLUMNS
from shared_schema.errors import InvalidValue


@click.group("channel", cls=Group)
def channel() -> None:
    """Bots on chat platforms: set one up, see how each of them is.

    A channel has a name, which stands before the colon of an address, and a type,
    which is its platform: two bots of one platform are two channels.
    """


@channel.command("add")
@click.argument("name")
@click.option("--type", "kind", metavar="TYPE", help="Its platform, where the name is another word.")
@click.option(
    "--set", "values", metavar="SETTING=VALUE", multiple=True, help="A setting that is no secret; repeatable."
)
@click.option("--ask", "asked", metavar="SETTING", multiple=True, help="Ask for this secret, too; repeatable.")
@click.option("--check/--no-check", default=True, help="Whether the platform is asked before anything is kept.")
@json_option
@click.pass_obj
def add(
    invocation: Invocation,
    name: str,
    kind: str | None,
    values: tuple[str, ...],
    asked: tuple[str, ...],
    check: bool,
    as_json: bool,
) -> None:
    """Set up a channel in dumbwaiter.toml, which only you can read then.

    Its secrets are asked for, or read from standard input, one a line in the order
    of the questions; they are never an argument. A running host connects at once.
    """
    settings = _given(values) | _secrets(kind or name, name, asked)
    made = invocation.call("channel.add", name=name, type=kind, settings=settings, check=check)
    present(made, as_json, lambda done: _say_added(invocation, done))


@channel.command("list")
@json_option
@click.pass_obj
def list_all(invocation: Invocation, as_json: bool) -> None:
    """All channels: whether each is connected, since when, and why not."""
    present(
        invocation.call("channel.list"),
        as_json,
        lambda rows: print_table(
            rows, CHANNEL_COLUMNS, none="There are no channels: `dumbwaiter channel add telegram` sets one up."
        ),
    )


@channel.command("check")
@click.argument("name")
@json_option
@click.pass_obj
def check(invocation: Invocation, name: str, as_json: bool) -> None:
    """Ask the platform who the bot is there, and what a person still has to set up."""
    present(invocation.call("channel.check", name=name), as_json, _show_identity)


@channel.command("remove")
@click.argument("name")
@json_option
@click.pass_obj
def remove(invocation: Invocation, name: str, as_json: bool) -> None:
    """Take a channel away. Its chats and their conversations stay."""
    present(invocation.call("channel.remove", name=name), as_json, lambda done: print_fields(done, ("removed",)))


def _given(values: Sequence[str]) -> dict[str, Any]:
    """The settings of `--set`: a value as TOML has it, or else a text."""
    found: dict[str, Any] = {}
    for each in values:
        name, equals, text = each.partition("=")
        if not equals or not name.isidentifier():
            raise click.UsageError(f"'{each}' is no setting: write SETTING=VALUE")
        try:
            found[name] = tomllib.loads(f"value = {text}")["value"]
        except ValueError:
            found[name] = text
    return found


def _secrets(kind: str, name: str, asked: Sequence[str]) -> dict[str, str]:
    """The secrets of a channel: those it needs, and those that are asked for. Raises `InvalidValue`."""
    from host.channels.registry import channel_type

    settings = channel_type(kind).settings
    secrets = settings.secret_fields()
    if unknown := [each for each in asked if each not in secrets]:
        raise InvalidValue(f"'{unknown[0]}' is no secret of '{kind}'", hint=f"it has: {', '.join(secrets) or 'none'}")
    wanted = [each for each in secrets if each in asked or settings.model_fields[each].is_required()]
    found: dict[str, str] = {}
    for each in wanted:
        what = settings.model_fields[each].description or each.replace("_", " ")
        text = _asked(f"{name}: {what}").strip()
        if not text:
            raise InvalidValue(f"the {each} of '{name}' is empty", hint="paste it, or put it on standard input")
        found[each] = text
    return found


def _asked(question: str) -> str:
    """A secret: typed unseen at a terminal, else the next line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt(question, hide_input=True, err=True))
    return str(sys.stdin.readline())


def _say_added(invocation: Invocation, made: dict[str, Any]) -> None:
    known = f" ({made['account']})" if made["account"] else ""
    click.echo(f"{made['name']}{known} is set up in {made['file']}, which only you can read.")
    for sentence in made["missing"]:
        click.echo(f"Still missing: {sentence}")
    if made["state"] == "connected":
        click.echo("It is connected. Write to it there; `dumbwaiter wirings` says who answers where.")
    elif made["reason"]:
        click.echo(f"It is {made['state']}: {made['reason']}" + (f" ({made['hint']})" if made["hint"] else ""))
    else:
        from host.start_line import start_line

        click.echo(f"Next, start the host, then write to it there:\n    {start_line(invocation.data)}")


def _show_identity(found: dict[str, Any]) -> None:
    print_fields(found, ("name", "type", "id", "account"))
    for sentence in found["missing"]:
        click.echo(f"Still missing: {sentence}")
    if not found["missing"]:
        click.echo("Nothing is missing there.")
