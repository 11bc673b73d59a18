"""The line to type once what is wrong with a channel is mended. Pure."""

from __future__ import annotations

from host.channels.protocol import TokenRefused
from shared_schema.errors import DumbwaiterError

_OWN_LINE = "`dumbwaiter "
"""A hint in which that stands says already what to type."""


def hint_with_line(error: DumbwaiterError, name: str, *, is_kept: bool = True) -> str:
    """What to do about an error of the channel `name`, with the very line to type.

    `is_kept`: its settings stand in dumbwaiter.toml already; else it was about to be added.
    """
    hint = error.own_hint
    if hint is not None and _OWN_LINE in hint:
        return hint
    if not is_kept:
        line = f"type `dumbwaiter channel add {name}` again, nothing is kept yet"
    elif isinstance(error, TokenRefused):
        line = f"type `dumbwaiter channel set {name} --ask {error.setting}`"
    else:
        line = f"type `dumbwaiter channel check {name}`"
    return line if hint is None else f"{hint}; then {line}"
