"""Which texts of a settings file are secrets, and whether the file is its owner's alone.

A secret is a text under a name that says so (`key`, `token`, `password`, …), at any depth, or the password in an
address. Names decide and not the settings that exist today, so that a setting of tomorrow is guarded as well.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

_NAMES = re.compile(
    r"(^|[_-])(api_?)?(keys?|tokens?|secrets?|pass(word|wd|phrase)?|credentials?|auth(orization)?)$", re.I
)
_HEADERS = "telemetry.headers."
"""What a collector wants in a header is a key, under any name."""
_LARGEST_FILE = 1024**2
OPEN = 0o077


def secrets_of(document: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every secret of a parsed file, as its dotted name and its text."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from secrets_of(value, f"{name}.{key}" if name else str(key))
    elif isinstance(document, list):
        for value in document:
            yield from secrets_of(value, name)
    elif isinstance(document, str) and document.strip():
        if _NAMES.search(name.rpartition(".")[2]) or name.startswith(_HEADERS):
            yield name, document
        elif (password := _password(document)) is not None:
            yield name, password


def secrets_in(path: Path) -> list[tuple[str, str]]:
    """The secrets of a TOML file; none where it is not there or no TOML, which is for its reader to say."""
    try:
        with path.open("rb") as file:
            return list(secrets_of(tomllib.loads(file.read(_LARGEST_FILE).decode("utf-8-sig"))))
    except (OSError, ValueError, RecursionError):
        return []


def is_private(path: Path) -> bool:
    """Whether its owner alone may read or change a file that is there."""
    return not stat.S_IMODE(path.stat().st_mode) & OPEN


def make_private(path: Path) -> bool:
    """Close a file to everybody but its owner; whether it is closed now."""
    try:
        if path.stat().st_uid == os.geteuid():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~OPEN)
        return is_private(path)
    except OSError:
        return False


HIDDEN = "[secret]"
_SHORTEST = 6
"""Characters of a secret that is looked for in texts: a shorter one is found by chance."""


def hidden(text: str, secrets: Collection[str]) -> str:
    """The text without these secrets, as they are or as they stand in URLs and in JSON."""
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            for writing in {secret, quote(secret, safe=""), json.dumps(secret)[1:-1]}:
                text = text.replace(writing, HIDDEN)
    return text


def _password(text: str) -> str | None:
    try:
        return urlsplit(text).password or None if "://" in text else None
    except ValueError:
        return None
