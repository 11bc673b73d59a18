"""`dumbwaiter history`: the searchable record."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import present


@click.group("history", cls=Group)
def history() -> None:
    """The searchable record of all sessions."""


@history.command("rebuild")
@json_option
@click.pass_obj
def rebuild(invocation: Invocation, as_json: bool) -> None:
    """Make history.db again from the session folders.

    A host that runs goes on meanwhile; searches find what the old file has until the new one is complete.
    """
    present(_rebuilt(invocation), as_json, _show)


def _rebuilt(invocation: Invocation) -> dict[str, Any]:
    """The last thing the rebuild says, after a bar on standard error that shows how far it is."""
    from rich.console import Console
    from rich.progress import Progress

    last: dict[str, Any] = {}
    with Progress(console=Console(stderr=True), transient=True) as bar:
        reading, indexing = bar.add_task("Reading", total=None), bar.add_task("Indexing", total=None, start=False)
        for progress in invocation.stream_to_its_end("history.rebuild"):
            bar.update(reading, completed=progress["sessions"], total=progress["of"])
            if progress["stage"] == "indexing":
                bar.start_task(indexing)
            last = progress
    return last


def _show(done: dict[str, Any]) -> None:
    click.echo(f"{done['entries']} entries of {done['of']} sessions in {done['seconds']:.1f} s")
    if done["unreadable"]:
        click.echo(f"{done['unreadable']} of them could not be read to the end", err=True)
