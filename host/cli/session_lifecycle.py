"""`dumbwaiter session new`, `resume`, `undo`, …: what becomes of a conversation. SESSION is named as everywhere."""

from __future__ import annotations

import re
from typing import Any

import click

from host.cli.command import Command, json_option
from host.cli.confirm import confirm, yes_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields, print_table
from host.cli.plain import one_line

_AGE = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>[hdwy])")
_DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0, "y": 365.0}
_PRUNED = ("id", "agent_group", "messaging_group", "title", "preview", "ended_at", "last_active")


class Age(click.ParamType[float]):
    """An age such as 90d, 12h, 6w or 1y, in days."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = _AGE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"'{value}' is not an age: write 90d, 12h, 6w or 1y", param, ctx)
        return float(match["number"]) * _DAYS[match["unit"]]


@click.command("new", cls=Command)
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
    present(made, as_json, _print_id)


@click.command("resume", cls=Command)
@click.argument("session")
@click.option("--messaging-group", metavar="ADDRESS", help="Take it up in this chat, not in its own.")
@click.option("--agent-group", metavar="NAME", help="The agent group it must be of.")
@click.option("--thread", metavar="ID", help="The thread of the chat.")
@json_option
@click.pass_obj
def resume(
    invocation: Invocation,
    session: str,
    messaging_group: str | None,
    agent_group: str | None,
    thread: str | None,
    as_json: bool,
) -> None:
    """Take up a session again.

    What was said in its place meanwhile ends, and can be resumed in turn. Prints its id.
    """
    taken = invocation.call(
        "session.resume", session=session, messaging_group=messaging_group, agent_group=agent_group, thread=thread
    )
    present(taken, as_json, _print_id)


@click.command("branch", cls=Command)
@click.argument("session")
@json_option
@click.pass_obj
def branch(invocation: Invocation, session: str, as_json: bool) -> None:
    """Go on in a copy; SESSION stays as it is.

    Prints the id of the copy.
    """
    present(invocation.call("session.branch", session=session), as_json, _print_id)


@click.command("undo", cls=Command)
@click.argument("session")
@click.option("-n", "--count", type=click.IntRange(min=1), default=1, show_default=True, help="So many exchanges.")
@yes_option
@json_option
@click.pass_obj
def undo(invocation: Invocation, session: str, count: int, yes: bool, as_json: bool) -> None:
    """Take back the last exchanges, with all that waits for an answer.

    The agent forgets them; the transcript keeps them. For more than three it asks first, unless there is --yes.
    """
    from host.operations.command_answers import MOST_UNASKED  # here, because each command would load its libraries

    if count > MOST_UNASKED and not yes:
        named = invocation.call("session.show", session=session)
        said = one_line(named["title"] or "no title")
        confirm(f"The last {count} exchanges of session {named['short_id']} ({said}) are taken back.", yes)
    present(invocation.call("session.undo", session=session, count=count), as_json, _show_undone)


@click.command("retry", cls=Command)
@click.argument("session")
@json_option
@click.pass_obj
def retry(invocation: Invocation, session: str, as_json: bool) -> None:
    """Take back the last exchange, with all that waits for an answer, and ask the same again."""
    present(invocation.call("session.retry", session=session), as_json, _show_undone)


@click.command("compress", cls=Command)
@click.argument("session")
@json_option
@click.pass_obj
def compress(invocation: Invocation, session: str, as_json: bool) -> None:
    """Let the agent sum up a conversation and go on from that.

    Prints the id of the session in which it goes on. A host must be running.
    """
    present(invocation.call("session.compress", session=session), as_json, _print_id)


@click.command("stop", cls=Command)
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
        lambda done: print_fields(done, ("session_id", "stopped", "cancelled")),
    )


@click.command("archive", cls=Command)
@click.argument("session")
@json_option
@click.pass_obj
def archive(invocation: Invocation, session: str, as_json: bool) -> None:
    """Make a session read-only and cancel what waits.

    `resume` opens it again.
    """
    present(
        invocation.call("session.archive", session=session),
        as_json,
        lambda done: print_fields(done, ("id", "status", "title")),
    )


@click.command("delete", cls=Command)
@click.argument("session")
@click.option("--for-good", is_flag=True, help="Remove its rows, folder and history now.")
@yes_option
@json_option
@click.pass_obj
def delete(invocation: Invocation, session: str, for_good: bool, yes: bool, as_json: bool) -> None:
    """Delete a session.

    It can be restored for a day (the setting deleted_hours), then it is removed: rows, folder and history. With
    --for-good it asks first, unless there is --yes.
    """
    if for_good and not yes:
        named = invocation.call("session.show", session=session)
        confirm(
            f"Session {named['short_id']} ({one_line(named['title'] or 'no title')}) will be removed with its files.",
            yes,
        )
    done = invocation.call("session.delete", session=session, for_good=for_good or None)
    present(done, as_json, lambda done: print_fields(done, ("session_id", "deleted", "cancelled", "restorable")))
    if done["restorable"] and not as_json:
        click.echo(f"`dumbwaiter session restore {done['session_id']}` brings it back.", err=True)


@click.command("restore", cls=Command)
@click.argument("session")
@json_option
@click.pass_obj
def restore(invocation: Invocation, session: str, as_json: bool) -> None:
    """Bring back a deleted session.

    It is ended then: `resume` takes it up again.
    """
    present(
        invocation.call("session.restore", session=session),
        as_json,
        lambda done: print_fields(done, ("id", "status", "title")),
    )


@click.command("prune", cls=Command)
@click.option("--older-than", type=Age(), required=True, metavar="AGE", help="Ended so long ago: 90d, 12h, 6w or 1y.")
@click.option("--agent-group", metavar="NAME", help="Only of this agent group.")
@click.option("--apply", is_flag=True, help="Delete them; without this they are only shown.")
@click.option("--for-good", is_flag=True, help="Remove them now, so that they cannot be restored.")
@yes_option
@json_option
@click.pass_obj
def prune(
    invocation: Invocation,
    older_than: float,
    agent_group: str | None,
    apply: bool,
    for_good: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete sessions that ended long ago. With --for-good it asks first, unless there is --yes."""
    if apply and for_good and not yes:
        found = invocation.call("session.prune", older_than_days=older_than, agent_group=agent_group)
        if found["sessions"]:
            confirm(f"{len(found['sessions'])} sessions will be removed with their files.", yes)
    present(
        invocation.call(
            "session.prune",
            older_than_days=older_than,
            agent_group=agent_group,
            apply=apply or None,
            for_good=for_good or None,
        ),
        as_json,
        _show_pruned,
    )


def _print_id(session: dict[str, Any]) -> None:
    click.echo(session["id"])


def _show_undone(undone: dict[str, Any]) -> None:
    click.echo(f"Taken back: {undone['exchanges']}")
    for text in undone["messages"]:
        click.echo(f"    {one_line(text)}")


def _show_pruned(done: dict[str, Any]) -> None:
    print_table(done["sessions"], _PRUNED, none="No session ended so long ago.")
    if done["sessions"]:
        note = "deleted" if done["pruned"] else "found; --apply deletes them"
        click.echo(f"{len(done['sessions'])} {note}", err=True)
