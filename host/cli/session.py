"""`dumbwaiter session`: conversations. SESSION is an id or its beginning, a title, or a number of the last list."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any

import click

from host.api.client import NoHost
from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import on_terminal, present, print_fields, print_table
from host.cli.plain import as_json as to_json
from host.cli.plain import plain
from host.cli.table import Column
from host.cli.transcript import print_entry

LIST_COLUMNS = (
    Column("#"),
    Column("id"),
    Column("agent_group", "agent", cut=True, spare=1),
    Column("messaging_group", "chat", cut=True, spare=2),
    Column("status", spare=5),
    Column("unread", "new"),
    Column("title", cut=True),
    Column("preview", cut=True, spare=4),
    Column("last_active", "last"),
    Column("pending", "waits", spare=6),
    Column("agent", "runs", spare=7),
)
FIELDS = (
    "id", "title", "title_source", "preview", "agent_group", "messaging_group", "thread_id", "kind", "status",
    "end_reason", "unread_since", "parent_id", "parent_relation", "generation", "path", "pending", "agent",
    "node", "waits_for_node", "run_id", "turn_count",
    "created_at", "last_active", "ended_at",
)  # fmt: skip
ALWAYS = frozenset({"id", "title", "agent_group", "messaging_group", "status", "path", "agent"})
TURNS = (
    Column("started_at", "turn"),
    Column("status"),
    Column("model", cut=True, spare=1),
    Column("prompt_tokens", "in", spare=2),
    Column("output_tokens", "out", spare=2),
    Column("fallback", "instead, because", cut=True, spare=3),
    Column("error", "why", cut=True),
)
REFUSALS = (Column("created_at", "when"), Column("what", "refused"), Column("reason", "why", cut=True))
STATUSES = ("active", "ended", "archived", "deleted")
KINDS = ("chat", "agent", "heartbeat", "schedule", "all")


LAZY = {name: f"host.cli.session_lifecycle:{name}" for name in (
    "new", "resume", "branch", "undo", "retry", "compress", "stop", "archive", "delete", "restore", "prune",
)}  # fmt: skip
LAZY |= {name: f"host.cli.session_history:{name}" for name in ("search", "transcript", "export")}
LAZY["title"] = "host.cli.session_title:title"
LAZY["sql"] = "host.cli.session_sql:sql"
LAZY["import"] = "host.cli.session_history:import_file"


@click.group("session", cls=Group, lazy=LAZY)
def session() -> None:
    """Conversations.

    SESSION is an id, a unique beginning of one, a title, or a number of this
    terminal's last list.
    """


@session.command("list")
@click.option("--agent-group", metavar="NAME", help="Only of this agent group.")
@click.option("--messaging-group", metavar="ADDRESS", help="Only of this messaging group.")
@click.option("--channel", metavar="TYPE", help="Only of this channel.")
@click.option("--status", type=click.Choice(STATUSES), help="Only with this status; without it, all but the deleted.")
@click.option(
    "--kind", type=click.Choice(KINDS), help="Only of this kind; without it, all but the runs of schedules; or all."
)
@click.option("--unread", is_flag=True, help="Only with unread messages.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@click.option("--after", metavar="ID", help="Go on behind this session: its id, or LAST_ACTIVE/ID.")
@json_option
@click.pass_obj
def list_all(
    invocation: Invocation,
    agent_group: str | None,
    messaging_group: str | None,
    channel: str | None,
    status: str | None,
    kind: str | None,
    unread: bool,
    limit: int | None,
    after: str | None,
    as_json: bool,
) -> None:
    """Sessions, the most recently active first.

    Until the next list in this terminal, SESSION may also be a number of this one: 1 is the first.
    """
    sessions = invocation.call(
        "session.list",
        agent_group=agent_group,
        messaging_group=messaging_group,
        channel=channel,
        status=status,
        kind=kind,
        unread=unread or None,
        limit=limit,
        after=after,
        terminal=invocation.terminal,
    )
    present(
        sessions,
        as_json,
        lambda rows: print_table(
            _numbered(rows), LIST_COLUMNS, none='There are no such sessions; `dumbwaiter chat -m "hello"` starts one.'
        ),
    )


@session.command("show")
@click.argument("session")
@json_option
@click.pass_obj
def show(invocation: Invocation, session: str, as_json: bool) -> None:
    """One session, and what was refused of its agent.

    It counts as read from then on.
    """
    present(invocation.call("session.show", session=session), as_json, _show)


@session.command("path")
@click.argument("session")
@json_option
@click.pass_obj
def path(invocation: Invocation, session: str, as_json: bool) -> None:
    """The folder of a session.

    For `cd "$(dumbwaiter session path SESSION)"`.
    """
    present(invocation.call("session.path", session=session), as_json, lambda value: click.echo(value["path"]))


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


def _numbered(sessions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the list. On a terminal one without a title has its first words, because those may be left out."""
    numbered = [
        {"#": number, **each, "unread": "*" if each.get("unread") else ""} for number, each in enumerate(sessions, 1)
    ]
    return [row | {"title": row["title"] or row["preview"]} for row in numbered] if on_terminal() else numbered


def _show(value: dict[str, Any]) -> None:
    print_fields(value, [field for field in FIELDS if field in ALWAYS or value.get(field) not in (None, "", 0)])
    for heading, columns in (("turns", TURNS), ("refusals", REFUSALS)):
        if value[heading]:
            click.echo()
            print_table(value[heading], columns, none="")


def _show_log(value: dict[str, Any]) -> None:
    text = plain(value["text"])
    click.echo(text, nl=not text.endswith("\n") and text != "")


def _print_now(entry: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(to_json(entry, indent=None))
    else:
        print_entry(entry)
    sys.stdout.flush()
