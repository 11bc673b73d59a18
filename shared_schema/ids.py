"""Identifiers: a type prefix and 16 random hex digits (`ses_3f9c…`), safe as a file name by construction."""

from __future__ import annotations

import os
import re
from enum import StrEnum

from shared_schema.errors import InvalidValue

_HEX_DIGITS = 16


class Prefix(StrEnum):
    AGENT_GROUP = "agr"
    MESSAGING_GROUP = "mgr"
    WIRING = "wir"
    ROUTE = "rte"
    SESSION = "ses"
    MESSAGE = "msg"
    TURN = "trn"
    INSTALL = "ins"
    RUN = "run"
    PERSON = "prs"
    APPROVAL = "apr"
    SCHEDULE = "sch"
    SCHEDULE_RUN = "srn"


_PATTERN = {prefix: re.compile(rf"{prefix.value}_[0-9a-f]{{{_HEX_DIGITS}}}") for prefix in Prefix}


def new_id(prefix: Prefix) -> str:
    """A new identifier, unique by its 64 random bits."""
    return f"{prefix.value}_{os.urandom(_HEX_DIGITS // 2).hex()}"


def is_id(value: object, prefix: Prefix) -> bool:
    """Whether `value` is a complete identifier of that type. Never raises: the value may come from an agent."""
    return isinstance(value, str) and _PATTERN[prefix].fullmatch(value) is not None


def require_id(value: str, prefix: Prefix) -> str:
    """`value`, if it is an identifier of that type. Raises `InvalidValue` otherwise."""
    if not is_id(value, prefix):
        raise InvalidValue(f"'{value}' is not an id of the form {prefix.value}_<{_HEX_DIGITS} hex digits>")
    return value
