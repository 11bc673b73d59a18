"""`dumbwaiter channel`: bots on chat platforms."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import click

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import on_terminal, present, print_fields, print_table, print_wrapped
from host.cli.status import CHANNEL_COLUMNS
from shared_schema.errors import InvalidValue, NotFound


@click.group("channel", cls=Group)
def channel() -> None:
    """Bots on chat platforms: set one up, change it, see how each of them is.

    A channel has a name, which stands before the colon of an address, and a type,
    which is its platform: two bots of one platform are two channels.
    """


@channel.command("add", context_settings={"allow_extra_args": True})
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

    What it needs is asked for. Its secrets may stand on standard input, one a line in
    the order of the questions; they are never an argument. A running host connects at once.
    """
    from host.settings import CHANNEL_NAME

    # What stands there may be a token: it is not said again.
    if click.get_current_context().args or not CHANNEL_NAME.fullmatch(name):
        raise InvalidValue(
            "a channel is named by one word in small letters, and its secrets are no arguments",
            hint="`dumbwaiter channel add telegram` asks for its token",
        )
    given = _given(values)
    # Of one that is there nothing is asked: that there is one is said before a secret is pasted.
    is_there = name in _known(invocation)
    settings = given if is_there else given | _answered(kind or name, name, given, asked)
    made = invocation.call("channel.add", name=name, type=kind, settings=settings, check=check)
    present(made, as_json, lambda done: _say_kept(invocation, done))


@channel.command("set")
@click.argument("name")
@click.option(
    "--set", "values", metavar="SETTING=VALUE", multiple=True, help="A setting that is no secret; repeatable."
)
@click.option("--ask", "asked", metavar="SETTING", multiple=True, help="Ask for this secret; repeatable.")
@click.option("--unset", metavar="SETTING", multiple=True, help="Take a setting away; repeatable.")
@click.option("--check/--no-check", default=True, help="Whether the platform is asked before anything is kept.")
@json_option
@click.pass_obj
def change(
    invocation: Invocation,
    name: str,
    values: tuple[str, ...],
    asked: tuple[str, ...],
    unset: tuple[str, ...],
    check: bool,
    as_json: bool,
) -> None:
    """Change settings of a channel: a new token, for instance. A running host connects it anew.

    Secrets may stand on standard input, one a line in the order of the questions; they are
    never an argument. Where the platform refuses, everything stays as it was.
    """
    if not values and not asked and not unset:
        raise click.UsageError(f"say what: `dumbwaiter channel set {name} --ask token`, or `--set SETTING=VALUE`")
    kinds = _known(invocation)
    given = _given(values)
    if name in kinds:  # else it is said that there is none, before a secret is pasted
        given |= _answered(kinds[name], name, given, asked, only_asked=True)
    made = invocation.call("channel.set", name=name, settings=given, unset=list(unset), check=check)
    present(made, as_json, lambda done: _say_kept(invocation, done))


@channel.command("list")
@json_option
@click.pass_obj
def list_all(invocation: Invocation, as_json: bool) -> None:
    """All channels: whether each is connected, since when, and why not."""
    present(invocation.call("channel.list"), as_json, _show_all)


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


def _known(invocation: Invocation) -> dict[str, str]:
    """The channels by name, and their types; none where there is no data folder yet, which `add` makes."""
    try:
        return {each["name"]: each["type"] for each in invocation.call("channel.list")}
    except NotFound:
        return {}


def _show_all(rows: list[dict[str, Any]]) -> None:
    """The table; on a terminal, where it cuts off what does not fit, the sentences stand below it."""
    none = "There are no channels: `dumbwaiter channel add telegram` sets one up."
    if not on_terminal():
        print_table(rows, CHANNEL_COLUMNS, none=none)
        return
    print_table(rows, [each for each in CHANNEL_COLUMNS if each.key not in ("reason", "hint")], none=none)
    for row in rows:
        if row["reason"]:
            print_wrapped(f"{row['name']} is {row['state']}: {row['reason']}")
            if row["hint"]:
                print_wrapped(f"What to do: {row['hint']}", indent="  ")


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


def _answered(
    kind: str, name: str, given: Mapping[str, Any], asked: Sequence[str], *, only_asked: bool = False
) -> dict[str, Any]:
    """What a person is asked for: the secrets of a channel and, at a terminal, its other required settings.

    Raises `InvalidValue`, and `ExtraMissing` where the channel could not be connected anyway.
    """
    from host.channels.build import require_libraries
    from host.channels.registry import channel_type

    found_type = channel_type(kind)
    require_libraries(found_type)  # before a secret is looked for and pasted
    settings = found_type.settings
    secrets = settings.secret_fields()
    if unknown := [each for each in asked if each not in secrets]:
        raise InvalidValue(f"'{unknown[0]}' is no secret of '{kind}'", hint=f"it has: {', '.join(secrets) or 'none'}")
    if shown := [each for each in given if each in secrets]:
        raise InvalidValue(
            f"'{shown[0]}' is a secret, and every user of this machine can read what is typed behind a command",
            hint=f"take a new one, leave `--set {shown[0]}=…` out, and paste it when you are asked",
        )
    found: dict[str, Any] = {}
    for each, field in settings.model_fields.items():
        is_needed, is_secret = field.is_required() or each in asked, each in secrets
        is_offered = each in asked if only_asked else is_needed or each in settings.offered
        if each in given or each == "type" or not is_offered or not (is_secret or sys.stdin.isatty()):
            continue  # where there is no terminal, what is missing is named by the check of the settings
        what = field.description or each.replace("_", " ")
        text = _typed(f"{name}: {what}" + ("" if is_needed else " (Enter: none)"), is_secret, is_needed).strip()
        if is_needed and not text:
            raise InvalidValue(f"the {each} of '{name}' is empty", hint="paste it, or put it on standard input")
        if text:
            found[each] = text.replace(",", " ").split() if "tuple" in str(field.annotation) else text
    return found


def _typed(question: str, is_secret: bool, is_needed: bool) -> str:
    """An answer: typed at a terminal, unseen where it is a secret, else the next line of standard input."""
    if sys.stdin.isatty():
        default = None if is_needed else ""
        return str(click.prompt(question, hide_input=is_secret, default=default, show_default=False, err=True))
    return str(sys.stdin.readline())


def _say_kept(invocation: Invocation, made: dict[str, Any]) -> None:
    known = f" ({made['account']})" if made["account"] else ""
    click.echo(f"{made['name']}{known} is set up in {made['file']}, which only you can read.")
    _say_missing(made["name"], made["missing"])
    if made["state"] == "connected":
        click.echo("It is connected.")
    elif made["state"] == "stopped":
        from host.start_line import start_line

        click.echo(f"Next, start the host:\n    {start_line(invocation.data).strip('`')}")
    elif not made["missing"] and made["reason"]:
        click.echo(f"It is {made['state']}: {made['reason']}" + (f" ({made['hint']})" if made["hint"] else ""))
    if made["state"] not in ("connected", "stopped"):
        return
    if made["has_direct_chats"]:
        click.echo(
            "Then write to it there; `dumbwaiter wirings` says who answers where. If you are not the owner yet, write "
            "the code there that `dumbwaiter user claim-code` gives."
        )
    else:
        chat = f"{made['name']}:CHAT"
        click.echo(
            f"Then wire a chat of it to an agent:\n    dumbwaiter messaging-group add {chat} --unknown-sender public\n"
            f"    dumbwaiter wire {chat} AGENT"
        )


def _say_missing(name: str, missing: Sequence[str]) -> None:
    for sentence in missing:
        click.echo(f"Still missing: {sentence}")
    if missing:
        click.echo(f"When that is done, type `dumbwaiter channel check {name}`.")


def _show_identity(found: dict[str, Any]) -> None:
    print_fields(found, ("name", "type", "id", "account"))
    _say_missing(found["name"], found["missing"])
    if not found["missing"]:
        click.echo("Nothing is missing there.")
