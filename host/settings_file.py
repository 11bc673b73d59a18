"""Changing tables of `dumbwaiter.toml`. What a person wrote in it stays as it is, comments and order too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from host.private_file import replace_private
from shared_schema.errors import FileTrouble, InvalidValue
from shared_schema.foreign_text import decoded
from shared_schema.system_errors import words_of


def table_of(path: Path, group: str, name: str) -> dict[str, Any] | None:
    """The table `[group.name]` as it stands in the file; None where there is none. Raises as `put_table`."""
    tables = _document(path).unwrap().get(group)
    table = tables.get(name) if isinstance(tables, dict) else None
    return table if isinstance(table, dict) else None


def put_table(path: Path, group: str, name: str, values: Mapping[str, Any]) -> None:
    """Add the table `[group.name]`, or give the one that is there these values alone; the file becomes private.

    Raises `InvalidValue` for a file that is no TOML, and `FileTrouble`.
    """
    document = _document(path)
    tables = document.get(group)
    if tables is None:
        tables = tomlkit.table(is_super_table=True)
        document[group] = tables
    if not isinstance(tables, dict):
        raise InvalidValue(f"'{group}' is no table in this file", where=path, hint="mend it by hand")
    table = tables.get(name)
    if not isinstance(table, dict):
        table = tables[name] = tomlkit.table()
    for key in [each for each in table if each not in values]:
        del table[key]
    for key, value in values.items():
        if table.get(key) != value:  # what stays as it is keeps its comment
            table[key] = value
    replace_private(path, tomlkit.dumps(document))


def remove_table(path: Path, group: str, name: str) -> bool:
    """Take the table `[group.name]` away; whether it was there. Raises as `put_table`."""
    document = _document(path)
    tables = document.get(group)
    if not isinstance(tables, dict) or name not in tables:
        return False
    del tables[name]
    if not tables:
        del document[group]
    replace_private(path, tomlkit.dumps(document))
    return True


def put_item(path: Path, group: str, name: str, values: Mapping[str, Any]) -> None:
    """Add a table to the array `[[group]]`, or put it in place of the one of that `name`. Raises as `put_table`."""
    document = _document(path)
    items = document.get(group)
    if items is None:
        items = document[group] = tomlkit.aot()
    if not isinstance(items, list):
        raise InvalidValue(f"'{group}' is no array of tables in this file", where=path, hint="mend it by hand")
    table = tomlkit.table()
    for key, value in ({"name": name} | dict(values)).items():
        table[key] = value
    for number, item in enumerate(items):
        if item.get("name") == name:
            items[number] = table
            break
    else:
        items.append(table)
    replace_private(path, tomlkit.dumps(document))


def remove_item(path: Path, group: str, name: str) -> bool:
    """Take the table of that `name` out of the array `[[group]]`; whether it was there. Raises as `put_table`."""
    document = _document(path)
    items = document.get(group)
    found = [number for number, item in enumerate(items) if item.get("name") == name] if isinstance(items, list) else []
    if not found:
        return False
    del document[group][found[0]]
    if not document[group]:
        del document[group]
    replace_private(path, tomlkit.dumps(document))
    return True


def _document(path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(decoded(path.read_bytes()) if path.exists() else "")
    except OSError as error:
        raise FileTrouble(f"the file cannot be read: {words_of(error)}", where=path) from error
    except (TOMLKitError, ValueError, RecursionError) as error:
        raise InvalidValue(
            f"the file is malformed: {error}", where=path, hint="mend it, then type this again"
        ) from error
