"""`dumbwaiter audit`, `dropped`: what people changed, and what was not taken."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import cell, present, print_table
from host.cli.table import Column

AUDIT_COLUMNS = (
    Column("at", "when"),
    Column("who", cut=True),
    Column("from", cut=True, spare=1),
    Column("action"),
    Column("subject", cut=True),
    Column("change", cut=True),
)
DROPPED_COLUMNS = (
    Column("messaging_group", "chat", cut=True),
    Column("sender_id", "sender", cut=True),
    Column("reason", cut=True),
    Column("times"),
    Column("last_at", "last"),
)

limit_option = click.option(
    "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, metavar="N", help="At most so many."
)


@click.group("audit", cls=Group)
def audit() -> None:
    """The audit log: every change by a person."""


@audit.command("list")
@click.option("--who", help="Only by this one: a user, or such as uid 1000 for the command line.")
@click.option("--action", help="Only this action (wiring.set), or all of a noun (wiring).")
@click.option("--since", metavar="TIME", help="Only since then, such as 2026-02-28 (UTC).")
@click.option("--before", type=click.IntRange(min=1), metavar="N", help="Go on behind the entry with this position.")
@limit_option
@json_option
@click.pass_obj
def list_all(
    invocation: Invocation,
    who: str | None,
    action: str | None,
    since: str | None,
    before: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """Who changed what, from where, when, and how it was before and after; the newest first."""
    entries = invocation.call("audit.list", who=who, action=action, since=since, before=before, limit=limit)
    present(
        entries,
        as_json,
        lambda rows: print_table([_worded(row) for row in rows], AUDIT_COLUMNS, none="Nothing was changed yet."),
    )


@click.group("dropped", cls=Group)
def dropped() -> None:
    """Messages that were not taken, counted by chat, sender and reason."""


@dropped.command("list")
@click.option("--messaging-group", metavar="ADDRESS", help="Only of this chat.")
@limit_option
@json_option
@click.pass_obj
def list_dropped(invocation: Invocation, messaging_group: str | None, limit: int, as_json: bool) -> None:
    """What was not taken and why, the newest first."""
    rows = invocation.call("dropped.list", messaging_group=messaging_group, limit=limit)
    present(rows, as_json, lambda rows: print_table(rows, DROPPED_COLUMNS, none="Nothing was dropped."))


def _worded(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry with one text for its change: what was, and what is."""
    before, after = entry["before"] or {}, entry["after"] or {}
    parts = [
        f"{name}: {cell(before[name])} → {cell(after.get(name))}" if name in before else f"{name}: {cell(after[name])}"
        for name in {**before, **after}
    ]
    return entry | {"change": "; ".join(parts)}
