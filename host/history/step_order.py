"""Steps among messages. Pure."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence


def interleaved(messages: Sequence[sqlite3.Row], steps: Sequence[sqlite3.Row]) -> list[sqlite3.Row]:
    """Messages in their order, with the steps of a turn before the first message that the turn sent.

    Steps of a turn that sent nothing stand before those of the next turn that did, or at the end.
    """
    firsts: dict[str, int] = {}
    for number, message in enumerate(messages):
        if message["turn_id"] is not None:
            firsts.setdefault(message["turn_id"], number)
    before: dict[int, list[sqlite3.Row]] = {}
    waiting: list[sqlite3.Row] = []
    for step in steps:
        waiting.append(step)
        if step["turn_id"] in firsts:
            before.setdefault(firsts[step["turn_id"]], []).extend(waiting)
            waiting = []
    found: list[sqlite3.Row] = []
    for number, message in enumerate(messages):
        found += [*before.get(number, ()), message]
    return found + waiting
