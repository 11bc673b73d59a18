"""What commands print: lists as tables, one thing as keys and values, anything as JSON.

On a terminal a table fits its width and times are short and in the local zone; in a pipe columns are only aligned, ids
are whole and times are as stored. Nothing printed here can carry a control character of an agent's or a chat's.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import click

from host.cli.plain import as_json, one_line
from host.cli.table import GAP, Column, fitted
from shared_schema.clock import SystemClock, from_text
from shared_schema.errors import InvalidValue

_NARROWEST = 40
_STORED_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def print_json(value: Any) -> None:
    """The value as indented JSON."""
    click.echo(as_json(value))


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str | Column], *, none: str) -> None:
    """Rows under headings; `none` says on standard error that there are no rows.

    A column's values are cells: on a terminal that of an id is its short form, where the row has one (`short_<key>`).
    """
    if not rows:
        click.echo(none, err=True)
        return
    shown = [each if isinstance(each, Column) else Column(each) for each in columns]
    if not on_terminal():
        texts = [[cell(row.get(column.key)) for column in shown] for row in rows]
        for line in aligned([[column.key.replace("_", " ").upper() for column in shown], *texts]):
            click.echo(line)
        return
    texts = [[_short_cell(row, column.key) for column in shown] for row in rows]
    headings, *lines = fitted(shown, texts, width())
    click.secho(headings, bold=True)
    for line in lines:
        click.echo(line)


def width() -> int:
    """The cells of a line of the terminal; 40 at least."""
    return max(_NARROWEST, shutil.get_terminal_size().columns)


def print_fields(value: Mapping[str, Any], fields: Iterable[str]) -> None:
    """Some fields of an object, one on each line; a list has each of its items on a line of its own."""
    rows: list[list[str]] = []
    for field in fields:
        entry = value.get(field)
        items = entry if isinstance(entry, list) and entry else [entry]
        rows += [[field.replace("_", " ") if number == 0 else "", cell(item)] for number, item in enumerate(items)]
    for line in field_lines(rows, width() if on_terminal() else None):
        click.echo(line)


def field_lines(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Names and their values; a path that does not fit beside its name has a line of its own, to be copied."""
    lines: list[str] = []
    for line, row in zip(aligned(rows), rows, strict=True):
        is_cut = width is not None and row[-1].startswith("/") and len(line) > width
        lines += [line[: -len(row[-1])].rstrip(), row[-1]] if is_cut else [line]
    return lines


def print_wrapped(text: str, indent: str = "", first: str = "") -> None:
    """A text on lines that fit the terminal, on one line elsewhere. It may be styled."""
    click.echo(wrapped(text, width(), indent, first) if on_terminal() else f"{first or indent}{text}")


def wrapped(text: str, width: int, indent: str, first: str = "") -> str:
    """A text, which may be styled, broken between words; `first` begins its first line, `indent` the others."""
    from rich.cells import cell_len  # not needed in a pipe

    bare = click.unstyle(text)
    room = width // 2 if cell_len(bare) != len(bare) else width  # wide characters take two cells
    return click.wrap_text(text, room, initial_indent=first or indent, subsequent_indent=indent)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines with columns of even width."""
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    return [GAP.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def cell(value: Any) -> str:
    """A value as text of one line."""
    match value:
        case None | "" | []:
            return "-"
        case bool():
            return "yes" if value else "no"
        case Mapping() if not value:
            return "-"
        case Mapping():
            return GAP.join(f"{key}={cell(entry)}" for key, entry in value.items())
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


def with_local_times(sentence: str) -> str:
    """A sentence in which stored times stand as `moment` shows them."""
    return _STORED_TIME.sub(lambda found: moment(found.group()), sentence)


def on_terminal() -> bool:
    """Whether standard output is read by a person."""
    return sys.stdout.isatty()


def present(value: Any, as_json: bool, show: Callable[[Any], None]) -> None:
    """The value as JSON when that was asked for, and as `show` prints it otherwise."""
    (print_json if as_json else show)(value)


def _short_cell(row: Mapping[str, Any], key: str) -> str:
    value = row.get(f"short_{key}", row.get(key))
    short = short_moment(value) if isinstance(value, str) else None
    return cell(value) if short is None else short


def short_moment(text: str, now: datetime | None = None) -> str | None:
    """A stored time in a table: `17:03` today, `Mon 17:03` within six days, else `2026-11-29`. None: no time."""
    try:
        local = from_text(text).astimezone()
    except (InvalidValue, OverflowError):
        return None
    today = (now or SystemClock().now()).astimezone().date()
    if local.date() == today:
        return f"{local:%H:%M}"
    return f"{local:%a %H:%M}" if abs(local.date() - today) <= timedelta(days=6) else f"{local:%Y-%m-%d}"
