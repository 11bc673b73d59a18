"""`dumbwaiter status`: how it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from host.cli.command import Command, json_option
from host.cli.invocation import Invocation
from host.cli.node import NODE_COLUMNS
from host.cli.output import moment, present, print_fields, print_table
from host.cli.root import DONE, say_error
from host.cli.schedule import show_acting
from host.cli.table import Column
from host.start_line import start_line
from shared_schema.errors import NotFound

NO_HOST = 3
"""The exit status when no host runs."""

SESSION = Column("session_id", "session")
AGENT = Column("agent_group", "agent", cut=True)
AGENT_COLUMNS = (SESSION, AGENT, Column("state"), Column("since"), Column("node", spare=1))
TURN_COLUMNS = (
    SESSION,
    AGENT,
    Column("state"),
    Column("since"),
    Column("elapsed_seconds", "seconds", spare=1),
    Column("attempt", spare=2),
    Column("tool", cut=True, spare=3),
)
CHANNEL_COLUMNS = (
    Column("name"),
    Column("type", spare=2),
    Column("state"),
    Column("since"),
    Column("reconnects", spare=3),
    Column("reason", cut=True),
    Column("hint", "what to do", cut=True, spare=1),
)
HOOK_COLUMNS = (
    Column("name", cut=True),
    Column("waiting"),
    Column("missed"),
    Column("next_at", "next try", spare=1),
    Column("last_error", "what went wrong", cut=True),
)
APPROVAL_COLUMNS = (Column("code"), Column("kind"), Column("subject", cut=True), Column("created_at", "asked"))
FAILURE_COLUMNS = (Column("at", "when"), SESSION, Column("what", cut=True))


@click.command("status", cls=Command)
@json_option
@click.pass_obj
def status(invocation: Invocation, as_json: bool) -> int:
    """How the host is, what runs and what waits.

    Also the last failures. The exit status is 3 when no host runs.
    """
    try:
        state = invocation.call("status")
    except NotFound as error:  # there is no data folder, so no host runs
        say_error(str(error))
        return NO_HOST
    present(state, as_json, _show)
    return DONE if state["host"]["running"] else NO_HOST


def _show(state: dict[str, Any]) -> None:
    host, backlog = state["host"], state["backlog"]
    oldest = f", the oldest since {moment(backlog['oldest'])}" if backlog["oldest"] else ""
    print_fields(
        {
            "host": _host(host),
            "runtime": host.get("runtime_reason") or host.get("runtime"),
            "data": host["data"],
            "version": host["version"],
            "sessions": state["sessions"],
            "agents": f"{len(state['agents'])} running, {state['waiting_agents']} waiting for a slot",
            "turns": f"{state['turns_running']} running",
            "messages": f"{backlog['messages']} without an outcome{oldest}",
            "deliveries": f"{state['deliveries_waiting']} waiting",
            "files": _files(state["files"]),
        },
        ("host", "runtime", "data", "version", "sessions", "agents", "turns", "messages", "deliveries", "files"),
    )
    if state.get("channels"):
        click.echo("\nChannels")
        print_table(state["channels"], CHANNEL_COLUMNS, none="")
    if state.get("hooks"):
        click.echo("\nHooks")
        print_table(state["hooks"], HOOK_COLUMNS, none="")
    if state.get("nodes"):
        click.echo("\nNodes")
        print_table(state["nodes"], NODE_COLUMNS, none="")
    if state.get("waits_for_nodes"):
        click.echo("\nConversations that wait for a node (if it is gone for good: `dumbwaiter node lost NAME`)")
        print_table(state["waits_for_nodes"], ("session_id", "node"), none="")
    if state["agents"]:
        click.echo("\nAgents")
        print_table(state["agents"], AGENT_COLUMNS, none="")
    if state["turns"]:
        click.echo("\nTurns")
        print_table(state["turns"], TURN_COLUMNS, none="")
    if state.get("approvals"):
        click.echo("\nWaiting for a decision (`dumbwaiter approval show CODE`)")
        print_table(state["approvals"], APPROVAL_COLUMNS, none="")
    if (acting := state.get("schedules")) and (acting["active"] or acting["paused"] or acting["week"]):
        click.echo("\nWhat acts by itself")
        show_acting(acting)
    if state["limits"]:
        click.echo("\nLimits that held something back in this hour or the last")
        print_table(state["limits"], ("what", "subject", "hour", "held_back"), none="")
    if state["faults"]:
        click.echo("\nSessions that cannot be looked after (tried again; `doctor` says what to do)")
        print_table(state["faults"], ("since", "session_id", "what"), none="")
    if state["repairs"]:
        click.echo("\nSessions whose files had lost something")
        print_table(state["repairs"], ("at", "session_id", "what"), none="")
    if state["tool_servers"]:
        click.echo("\nServers of tools that cannot be used")
        print_table(state["tool_servers"], ("agent_group", "server", "since", "problem"), none="")
    if state["failures"]:
        click.echo("\nLast failures")
        print_table(state["failures"], FAILURE_COLUMNS, none="")


def _files(files: dict[str, Any]) -> str:
    """The host's own files with their sizes."""
    return ", ".join(f"{name} {size / 1024**2:,.1f} MiB" for name, size in files.items() if name != "largest")


def _host(host: dict[str, Any]) -> str:
    if not host["running"]:
        return f"not running: start it with {start_line(Path(host['data']))}"
    since = f" since {moment(host['since'])}" if host.get("since") else ""
    return f"running{since} (process {host['pid']})"
