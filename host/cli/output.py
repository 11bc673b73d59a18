"""What commands print: lists as tables, one thing as keys and values, anything as JSON.

On a terminal a table has lines and times are in the local zone; in a pipe columns are only aligned and times are as
stored. Nothing printed here can carry a control character of an agent's or a chat's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from host.cli.plain import as_json, one_line
from shared_schema.clock import from_text
from shared_schema.errors import InvalidValue

_GAP = "  "


def print_json(value: Any) -> None:
    """The value as indented JSON."""
    click.echo(as_json(value))


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, none: str) -> None:
    """Rows under headings, one column for each key; `none` says on standard error that there are no rows."""
    if not rows:
        click.echo(none, err=True)
        return
    texts = [[cell(row.get(column)) for column in columns] for row in rows]
    headings = [column.replace("_", " ") for column in columns]
    if on_terminal():
        _print_rich_table(headings, texts)
        return
    for line in aligned([[heading.upper() for heading in headings], *texts]):
        click.echo(line)


def print_fields(value: Mapping[str, Any], fields: Iterable[str]) -> None:
    """Some fields of an object, one on each line; a list has each of its items on a line of its own."""
    rows: list[list[str]] = []
    for field in fields:
        entry = value.get(field)
        items = entry if isinstance(entry, list) and entry else [entry]
        rows += [[field.replace("_", " ") if number == 0 else "", cell(item)] for number, item in enumerate(items)]
    for line in aligned(rows):
        click.echo(line)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines with columns of even width."""
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    return [_GAP.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def cell(value: Any) -> str:
    """A value as text of one line."""
    match value:
        case None | "" | []:
            return "-"
        case bool():
            return "yes" if value else "no"
        case Mapping():
            return _GAP.join(f"{key}={cell(entry)}" for key, entry in value.items())
        case list():
            return ", ".join(cell(item) for item in value)
        case _:
            return one_line(moment(value) if isinstance(value, str) else value)


def moment(text: str) -> str:
    """A stored time as people read it: in the local zone on a terminal. Any other text is returned as it is."""
    if not on_terminal():
        return text
    try:
        local: datetime = from_text(text).astimezone()
    except (InvalidValue, OverflowError):  # the last hours of the year 9999
        return text
    return f"{local:%Y-%m-%d %H:%M:%S}"


def on_terminal() -> bool:
    """Whether standard output is read by a person."""
    return sys.stdout.isatty()


def present(value: Any, as_json: bool, show: Callable[[Any], None]) -> None:
    """The value as JSON when that was asked for, and as `show` prints it otherwise."""
    (print_json if as_json else show)(value)


def _print_rich_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    Console().print(table)
