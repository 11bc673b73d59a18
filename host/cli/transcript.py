"""How the entries of a transcript are printed."""

from __future__ import annotations

from typing import Any

import click

from host.cli.output import moment
from host.cli.plain import one_line, plain

_ARROW = {"in": "→", "out": "←"}
_SETTLED = frozenset({"completed", "delivered", None, ""})


def print_entry(entry: dict[str, Any]) -> None:
    """One message: a line with its time, direction and sender, then its text and files, indented."""
    inward = entry["direction"] == "in"
    sender = one_line(entry.get("sender") or ("a person" if inward else "agent"))
    notes = [entry["kind"]] if entry.get("kind") not in ("chat", None) else []
    notes += [entry["status"]] if entry.get("status") not in _SETTLED else []
    note = f"  ({one_line(', '.join(notes))})" if notes else ""
    arrow = _ARROW.get(entry["direction"], "·")
    click.secho(f"{moment(entry['time'])}  {arrow} {sender}{note}", fg="cyan" if inward else "green")
    for line in plain(entry.get("text") or "").splitlines():
        click.echo(f"    {line}")
    for file in entry.get("files") or ():
        click.echo(f"    [file] {one_line(file)}")
