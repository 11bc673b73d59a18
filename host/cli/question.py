"""`dumbwaiter question`: what agents have asked people, and wait for."""

from __future__ import annotations

import click

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields, print_table
from host.cli.table import Column

COLUMNS = (
    Column("session_id", "session"),
    Column("agent_group", "agent"),
    Column("asked", cut=True),
    Column("text", "question", cut=True),
    Column("choices", cut=True, spare=1),
    Column("expires_at", "until"),
)


@click.group("question", cls=Group)
def question() -> None:
    """What agents have asked people, and wait for."""


@question.command("list")
@json_option
@click.pass_obj
def list_all(invocation: Invocation, as_json: bool) -> None:
    """The questions that wait for an answer."""
    present(
        invocation.call("question.list"),
        as_json,
        lambda rows: print_table(
            [row | {"choices": ", ".join(row["options"])} for row in rows], COLUMNS, none="No question waits."
        ),
    )


@question.command("answer")
@click.argument("session")
@click.argument("text")
@click.option("--message", metavar="ID", help="Which question, where the session has asked several.")
@json_option
@click.pass_obj
def answer(invocation: Invocation, session: str, text: str, message: str | None, as_json: bool) -> None:
    """Answer a question that you were asked at the terminal or in the browser."""
    done = invocation.call("question.answer", session=session, text=text, message=message)
    present(done, as_json, lambda done: print_fields(done, ("session_id", "answered")))
