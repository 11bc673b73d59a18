"""Writing `upstreams.toml`, the one file with keys: private from the first byte, replaced whole, others' lines kept."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from host.gateway.upstreams import read_file
from host.private_file import replace_private
from shared_schema.errors import InvalidValue
from shared_schema.foreign_text import decoded

_HEADER = re.compile(r"^\s*\[")


def store(path: Path, name: str, values: dict[str, str | None]) -> None:
    """Set fields of one model service; None takes a field away. Everything else in the file stays as it is.

    Raises `InvalidValue` for a file that is not in order, and `FileTrouble` when it cannot be written.
    """
    before = read_file(path)
    text = decoded(path.read_bytes()) if before or path.exists() else ""
    table = tomllib.loads(text).get(name, {})
    table = {key: value for key, value in (table | values).items() if value is not None}
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
    kept = _without(text, name).rstrip("\n")
    new = (f"{kept}\n\n" if kept else "") + f"[{name}]\n{lines}"
    try:
        is_as_wanted = tomllib.loads(new).get(name) == table and set(tomllib.loads(new)) >= set(before)
    except ValueError:
        is_as_wanted = False
    if not is_as_wanted:  # written in a way that lines do not show, such as `openai.key = …`
        raise InvalidValue(
            f"'{name}' cannot be changed in this file by a command", where=path, hint=f"set [{name}] in it by hand"
        )
    replace_private(path, new)


def _without(text: str, name: str) -> str:
    """The text without the table of that name."""
    kept, inside = [], False
    for line in text.splitlines(keepends=True):
        if _HEADER.match(line):
            inside = line.split("#")[0].strip().strip("[]").strip().strip("\"'") == name
        if not inside:
            kept.append(line)
    return "".join(kept)
