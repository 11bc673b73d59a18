"""`dumbwaiter chat`: talk to an agent from the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import closing

import click

from host.cli.command import Command, json_option
from host.cli.conversation import Conversation, Exchange, TerminalReply
from host.cli.invocation import Invocation
from host.cli.output import print_json
from host.cli.plain import one_line, plain
from host.cli.root import DONE, FAILED, report
from shared_schema.errors import DumbwaiterError


@click.command("chat", cls=Command)
@click.argument("agent", required=False)
@click.option("-m", "--message", metavar="TEXT", help="Say this, print the reply and leave; - reads standard input.")
@click.option("--session", metavar="SESSION", help="Go on in this session.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a reply; the prompt then says that it takes long, and goes on waiting.",
)
@json_option
@click.pass_obj
def chat(
    invocation: Invocation, agent: str | None, message: str | None, session: str | None, timeout: float, as_json: bool
) -> int:
    """Talk to an agent. Without AGENT it is the one that is wired to the terminal.

    On a terminal this is a prompt: Enter sends, also while the agent works; Alt-Enter begins a new line; Ctrl-C clears
    the line, then stops the agent, then leaves; /exit leaves. In a pipe every line of standard input is a message. A
    host must be running.
    """
    client = invocation.started_client()
    conversation = Conversation(client, agent_group=agent, session=session, seconds=timeout)
    if message is not None:
        return _say(conversation, sys.stdin.read() if message == "-" else message, as_json)
    if as_json:
        raise click.UsageError("--json needs a message: give -m")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return _say_lines(conversation, sys.stdin)

    from host.cli.terminal import talk_at_terminal

    return talk_at_terminal(client, agent_group=agent, session=session, seconds=timeout, data=invocation.data)


def _say(conversation: Conversation, text: str, as_json: bool) -> int:
    """One message; only the agent's texts, and the host's where a command asks it, on standard output."""
    if not text.strip():
        raise click.UsageError("The message is empty")
    exchange = Exchange()
    try:
        with closing(conversation.ask(text, exchange)) as replies:
            for reply in replies:
                if not as_json and not exchange.is_notice(reply):
                    _print_reply(reply)
    except DumbwaiterError:
        if as_json and exchange.message_id is not None:
            print_json(exchange.to_json())
        raise
    if as_json:
        print_json(exchange.to_json())
        return DONE
    for reply in exchange.replies:
        if exchange.is_notice(reply):
            click.echo(one_line(reply.text), err=True)
    return DONE


def _say_lines(conversation: Conversation, lines: Iterable[str]) -> int:
    """One message after the other; a failed one is reported and the next is said. 1 when one failed."""
    status = DONE
    for line in lines:
        if line.strip():
            try:
                _say(conversation, line.rstrip("\n"), as_json=False)
            except DumbwaiterError as error:
                report(error)
                status = FAILED
    return status


def _print_reply(reply: TerminalReply) -> None:
    if reply.text:
        click.echo(plain(reply.text))
    for file in reply.files:
        click.echo(f"[file] {one_line(file)}", err=True)
    sys.stdout.flush()
