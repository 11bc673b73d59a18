"""`dumbwaiter session`: conversations. SESSION is an id, a unique beginning of one, or a title."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any

import click

from host.api.client import NoHost
from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields, print_table
from host.cli.plain import as_json as to_json
from host.cli.plain import plain
from host.cli.transcript import print_entry

LIST_COLUMNS = (
    "id",
    "agent_group",
    "messaging_group",
    "thread_id",
    "status",
    "title",
    "last_active",
    "pending",
    "agent",
)
FIELDS = (
    "id", "title", "agent_group", "messaging_group", "thread_id", "kind", "status", "end_reason", "generation", "path",
    "pending", "agent", "run_id", "created_at", "last_active", "refusals",
)  # fmt: skip
STATUSES = ("active", "ended", "archived")


@click.group("session", cls=Group)
def session() -> None:
    """Conversations.

    SESSION is an id, a unique beginning of one, or a title.
    """


@session.command("list")
@click.option("--agent-group", metavar="NAME", help="Only of this agent group.")
@click.option("--messaging-group", metavar="ADDRESS", help="Only of this messaging group.")
@click.option("--status", type=click.Choice(STATUSES), help="Only with this status.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@json_option
@click.pass_obj
def list_all(
    invocation: Invocation,
    agent_group: str | None,
    messaging_group: str | None,
    status: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Sessions, the most recently active first."""
    sessions = invocation.call(
        "session.list", agent_group=agent_group, messaging_group=messaging_group, status=status, limit=limit
    )
    present(
        sessions,
        as_json,
        lambda rows: print_table(
            rows, LIST_COLUMNS, none='There are no such sessions; `dumbwaiter chat -m "hello"` starts one.'
        ),
    )


@session.command("show")
@click.argument("session")
@json_option
@click.pass_obj
def show(invocation: Invocation, session: str, as_json: bool) -> None:
    """One session, and what was refused of its agent."""
    present(invocation.call("session.show", session=session), as_json, _show)


@session.command("path")
@click.argument("session")
@json_option
@click.pass_obj
def path(invocation: Invocation, session: str, as_json: bool) -> None:
    """The folder of a session.

    For `cd "$(dumbwaiter session path SESSION)"`.
    """
    folder = invocation.call("session.show", session=session)["path"]
    present({"path": folder}, as_json, lambda value: click.echo(value["path"]))


@session.command("transcript")
@click.argument("session")
@click.option("--limit", type=click.IntRange(min=1), help="Only the last so many messages.")
@json_option
@click.pass_obj
def transcript(invocation: Invocation, session: str, limit: int | None, as_json: bool) -> None:
    """What was said, the oldest first."""
    present(invocation.call("session.transcript", session=session, limit=limit), as_json, _show_entries)


@session.command("tail")
@click.argument("session")
@click.option("-n", "--last", type=click.IntRange(min=0), default=10, show_default=True, help="Begin with so many.")
@json_option
@click.pass_obj
def tail(invocation: Invocation, session: str, last: int, as_json: bool) -> None:
    """The last messages, then new ones as they come.

    Ctrl-C leaves. With --json one object on each line.
    """
    try:
        with closing(invocation.stream("session.tail", session=session, last=last)) as entries:
            for entry in entries:
                _print_now(entry, as_json)
    except KeyboardInterrupt:
        return
    except NoHost:
        entries_now = invocation.call("session.transcript", session=session, limit=max(last, 1))
        for entry in entries_now if last else ():
            _print_now(entry, as_json)
        click.echo("No host is running, so nothing new will come.", err=True)


@session.command("new")
@click.argument("session", required=False)
@click.option("--messaging-group", metavar="ADDRESS", help="The chat that begins anew.")
@click.option("--agent-group", metavar="NAME", help="The agent group, where several serve the chat.")
@click.option("--thread", metavar="ID", help="The thread of the chat.")
@json_option
@click.pass_obj
def new(
    invocation: Invocation,
    session: str | None,
    messaging_group: str | None,
    agent_group: str | None,
    thread: str | None,
    as_json: bool,
) -> None:
    """Begin a fresh session.

    It takes the place of SESSION, or of the present session of a chat. Prints its id.
    """
    if session is None and messaging_group is None and agent_group is None:
        raise click.UsageError("Name a session, or a chat with --messaging-group")
    made = invocation.call(
        "session.new", session=session, messaging_group=messaging_group, agent_group=agent_group, thread=thread
    )
    present(made, as_json, lambda value: click.echo(value["id"]))


@session.command("stop")
@click.argument("session")
@json_option
@click.pass_obj
def stop(invocation: Invocation, session: str, as_json: bool) -> None:
    """Stop the agent and cancel what waits.

    The session stays; the next message wakes the agent again.
    """
    present(
        invocation.call("session.stop", session=session),
        as_json,
        lambda done: print_fields(done, ("session", "stopped", "cancelled")),
    )


@session.command("delete")
@click.argument("session")
@json_option
@click.pass_obj
def delete(invocation: Invocation, session: str, as_json: bool) -> None:
    """Delete a session for good.

    Its agent is stopped; its rows and its folder are removed.
    """
    present(
        invocation.call("session.delete", session=session),
        as_json,
        lambda done: print_fields(done, ("deleted", "cancelled")),
    )


@session.command("logs")
@click.argument("session")
@click.option(
    "--max-bytes",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="At most the last so many bytes.",
)
@json_option
@click.pass_obj
def logs(invocation: Invocation, session: str, max_bytes: int, as_json: bool) -> None:
    """What the agent printed, the last part of it."""
    present(invocation.call("session.logs", session=session, max_bytes=max_bytes), as_json, _show_log)


def _show(value: dict[str, Any]) -> None:
    print_fields(value, FIELDS)


def _show_entries(entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        print_entry(entry)


def _show_log(value: dict[str, Any]) -> None:
    text = plain(value["text"])
    click.echo(text, nl=not text.endswith("\n") and text != "")


def _print_now(entry: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(to_json(entry, indent=None))
    else:
        print_entry(entry)
    sys.stdout.flush()
