"""What pydantic says of a value that does not fit, without its own words before a sentence of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OF_A_VALIDATOR = "Value error, "


def misfit_of(error: Mapping[str, Any]) -> str:
    """The sentence of one of `ValidationError.errors()`."""
    return str(error["msg"]).removeprefix(_OF_A_VALIDATOR)
