"""`dumbwaiter wire`, `unwire`, `wirings`: which agent group serves which chat."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Command, Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields, print_table
from host.cli.table import Column

COLUMNS = (
    Column("messaging_group", "chat", cut=True),
    Column("agent_group", "agent", cut=True),
    Column("session_mode", "sessions"),
    Column("per_user", spare=2),
    Column("engage"),
    Column("pattern", cut=True),
    Column("reset", spare=1),
)
FIELDS = (
    *(column.key for column in COLUMNS), "reset_minutes", "reset_hour", "archived", "sender_scope", "non_engaging",
    "priority", "progress",
    "agent_replies", "created_at",
)  # fmt: skip


@click.command("wire", cls=Command)
@click.argument("messaging_group")
@click.argument("agent_group")
@click.option(
    "--session-mode",
    type=click.Choice(["shared", "per-thread", "agent-shared"]),
    default="shared",
    show_default=True,
    help="One session for the chat, for each of its threads, or for all chats of the agent group.",
)
@click.option("--per-user", is_flag=True, help="A session for each sender.")
@click.option(
    "--engage",
    type=click.Choice(["all", "mention", "mention-sticky", "pattern"]),
    help="Which messages the agent takes: all; those that mention it; with mention-sticky also the rest of a thread "
    "that did; or those that fit --pattern. Default: all, with a --pattern pattern.",
)
@click.option("--pattern", metavar="RE", help="The regular expression (RE2) of --engage pattern.")
@click.option(
    "--reset",
    type=click.Choice(["none", "idle", "daily", "both"]),
    default="none",
    show_default=True,
    help="When a conversation begins anew by itself: after a rest, at an hour of the day, or both.",
)
@click.option(
    "--reset-minutes", type=click.IntRange(min=1), default=1440, show_default=True, help="The rest of --reset idle."
)
@click.option(
    "--reset-hour",
    type=click.IntRange(0, 23),
    default=4,
    show_default=True,
    help="The hour of --reset daily, in the time zone of the messaging group.",
)
@click.option(
    "--archived",
    type=click.Choice(["refuse", "reopen"]),
    default="refuse",
    show_default=True,
    help="What a message to an archived conversation does: it is refused with a sentence, or opens it again.",
)
@click.option(
    "--sender-scope",
    type=click.Choice(["all", "members"]),
    default="all",
    show_default=True,
    help="Whom the agent listens to: all whom the chat lets in, or its members alone.",
)
@click.option(
    "--non-engaging",
    type=click.Choice(["drop", "accumulate"]),
    default="drop",
    show_default=True,
    help="Messages that it does not take: gone, or context of its next turn.",
)
@click.option(
    "--priority", type=click.IntRange(-1000, 1000), default=0, show_default=True, help="The highest is asked first."
)
@click.option(
    "--agent-replies",
    type=click.Choice(["ignore", "context", "engage"]),
    default="ignore",
    show_default=True,
    help="What other agents of the chat say: nothing to it, context, or as if a person had said it.",
)
@click.option(
    "--progress",
    type=click.Choice(["off", "typing", "draft"]),
    default="typing",
    show_default=True,
    help="What the chat is shown while the agent works: nothing, that it types, or its answer as it grows.",
)
@json_option
@click.pass_obj
def wire(
    invocation: Invocation,
    messaging_group: str,
    agent_group: str,
    session_mode: str,
    per_user: bool,
    engage: str | None,
    pattern: str | None,
    reset: str,
    reset_minutes: int,
    reset_hour: int,
    archived: str,
    sender_scope: str,
    non_engaging: str,
    priority: int,
    agent_replies: str,
    progress: str,
    as_json: bool,
) -> None:
    """Let an agent group (an agent) serve a messaging group (a chat). Wiring them again changes the wiring."""
    if pattern is None and engage == "pattern":
        raise click.UsageError("--engage pattern needs a --pattern")
    if pattern is not None and engage not in (None, "pattern"):
        raise click.UsageError(f"--pattern has no meaning with --engage {engage}")
    wiring = invocation.call(
        "wiring.add",
        messaging_group=messaging_group,
        agent_group=agent_group,
        session_mode=session_mode,
        per_user=per_user,
        engage=engage or ("all" if pattern is None else "pattern"),
        pattern=pattern,
        reset=reset,
        reset_minutes=reset_minutes,
        reset_hour=reset_hour,
        archived=archived,
        sender_scope=sender_scope,
        non_engaging=non_engaging,
        priority=priority,
        agent_replies=agent_replies,
        progress=progress,
    )
    present(wiring, as_json, _show)


@click.command("unwire", cls=Command)
@click.argument("messaging_group")
@click.argument("agent_group")
@json_option
@click.pass_obj
def unwire(invocation: Invocation, messaging_group: str, agent_group: str, as_json: bool) -> None:
    """Take a wiring away. Sessions stay."""
    present(
        invocation.call("wiring.remove", messaging_group=messaging_group, agent_group=agent_group),
        as_json,
        lambda done: print_fields(done, ("removed",)),
    )


@click.command("wirings", cls=Command)
@json_option
@click.pass_obj
def wirings(invocation: Invocation, as_json: bool) -> None:
    """All wirings, by messaging group."""
    present(
        invocation.call("wiring.list"),
        as_json,
        lambda rows: print_table(
            rows, COLUMNS, none="There are no wirings: `dumbwaiter wire MESSAGING_GROUP AGENT_GROUP` makes one."
        ),
    )


wiring = Group(
    "wiring",
    commands={"add": wire, "remove": unwire, "list": wirings},
    help="Which agent group serves which chat: the same as wire, unwire and wirings.",
)


def _show(wiring: dict[str, Any]) -> None:
    print_fields(wiring, FIELDS)
