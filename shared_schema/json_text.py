"""JSON that another program wrote, read the same way wherever it is read.

Python's own reader takes as much depth as the stack of the moment has room for, so the same text may pass in one thread
and fail in another. Here the bounds are fixed: what is taken once can be read, written and walked again anywhere.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

MAX_DEPTH = 64
"""Lists and objects within each other. No message needs more than five."""
_LARGEST = 2**63
"""Numbers are smaller: SQLite and most readers of JSON hold no larger one."""


def parse(text: str | bytes) -> Any:
    """The value of a JSON text. Raises `ValueError` for anything else, for too much depth and for numbers too large.

    `NaN` and `Infinity`, which Python writes and JSON does not know, are refused. Of two equal names the last counts.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (RecursionError, TypeError) as error:
        raise ValueError("it is no JSON, or nested too deep") from error
    _require_bounds(value)
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _require_bounds(value: Any) -> None:
    """Level by level and not by recursion, so that it needs no room of its own."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        deeper: list[Any] = []
        for each in level:
            if isinstance(each, str):
                continue
            if isinstance(each, dict):
                deeper += each.values()
            elif isinstance(each, list):
                deeper += each
            elif isinstance(each, int | float) and not -_LARGEST < each < _LARGEST:
                raise ValueError("it has a number that is too large")
        if not deeper:
            return
        level = deeper
    raise ValueError("it is nested too deep")
