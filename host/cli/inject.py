"""`dumbwaiter inject`: an inbound message by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from host.cli.command import Command, json_option
from host.cli.invocation import Invocation
from host.cli.output import print_json
from host.cli.root import DONE, FAILED, say_error


@click.command("inject", cls=Command)
@click.argument("messaging_group")
@click.argument("text")
@click.option("--sender", metavar="ID", help="Who writes, as the platform knows them.")
@click.option("--sender-name", metavar="NAME", help="Their name.")
@click.option("--thread", metavar="ID", help="The thread of the chat.")
@click.option("--mention", is_flag=True, help="As if the agent had been mentioned.")
@click.option(
    "--file",
    "files",
    type=click.Path(exists=True, dir_okay=False, readable=True, resolve_path=True, path_type=Path),
    multiple=True,
    help="A file that comes with it. Repeatable.",
)
@click.option(
    "--id", "platform_message_id", metavar="ID", help="The platform's id of the message: one that was seen is a repeat."
)
@click.option("--reply-to", metavar="ID", help="The message it replies to, by the platform's id or by ours.")
@json_option
@click.pass_obj
def inject(
    invocation: Invocation,
    messaging_group: str,
    text: str,
    sender: str | None,
    sender_name: str | None,
    thread: str | None,
    mention: bool,
    files: tuple[Path, ...],
    platform_message_id: str | None,
    reply_to: str | None,
    as_json: bool,
) -> int:
    """Hand in a message as if a platform had sent it.

    Prints the ids of the accepted messages, one for each agent group that took it. TEXT - reads standard
    input. The exit status is 1 when no agent group took the message.
    """
    if text == "-":
        text = sys.stdin.read()
    receipt = invocation.call(
        "message.inject",
        messaging_group=messaging_group,
        text=text,
        sender=sender,
        sender_name=sender_name,
        thread=thread,
        mention=mention,
        files=[str(path) for path in files],
        platform_message_id=platform_message_id,
        reply_to=reply_to,
    )
    if as_json:
        print_json(receipt)
    else:
        for accepted in receipt["accepted"]:
            click.echo(accepted["message_id"])
            if accepted["duplicate"]:
                click.echo(f"{accepted['agent_group']} had accepted this message before.", err=True)
    if receipt["accepted"]:
        return DONE
    say_error(f"no agent took the message: {receipt['dropped'] or 'no agent group is wired to this chat'}")
    return FAILED
