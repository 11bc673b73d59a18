"""Which cases of a long table `make test` has time for: one of each kind, or the worst. `make chaos` runs them all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def in_short(cases: Iterable[Any], *short: str) -> list[Any]:
    """The cases as parameters of a test, each called by its text: those that are not named are marked `full`.

    Raises `LookupError` for a name that no case has.
    """
    named = {str(case): case for case in cases}
    if missing := [name for name in short if name not in named]:
        raise LookupError(f"there are no such cases: {missing}")
    return [
        pytest.param(case, marks=() if name in short else pytest.mark.full, id=name) for name, case in named.items()
    ]
