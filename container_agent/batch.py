"""Which messages the next turn answers. Pure: rows in, a choice out.

Invariants:
- oldest first in `seq` order; nothing that is ready is skipped;
- a batch ends with a row that triggers, so context (`trigger` 0) is never answered alone;
- its triggering rows have one reply address, so that no reply can go to the chat that merely spoke last;
- a row that was tried before is the only triggering row of its batch: a message that kills the agent takes no other
  along.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shared_schema.rows import MessageIn, MessageInKind, MessageInStatus


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do next. `batch` and `control` may be empty; `due` is the stored time when the next row gets ready."""

    batch: tuple[MessageIn, ...] = ()
    control: tuple[str, ...] = ()
    due: str | None = None


def is_candidate(row: MessageIn, generation: int) -> bool:
    """Whether the row is still to be answered.

    A row of an older generation belongs to a conversation that was reset. One of a newer generation waits until the
    context has followed: answered under the old one, its reply would be thrown away.
    """
    return row.status == MessageInStatus.PENDING and row.generation == generation


def is_ready(row: MessageIn, now: str) -> bool:
    """Whether the row may be taken at `now` (a stored time; their order as text is their order in time)."""
    return row.process_after is None or row.process_after <= now


def choose(rows: Iterable[MessageIn], *, generation: int, max_batch: int, now: str) -> Choice:
    """The next batch out of the pending, unacknowledged `rows`, and the control rows, which never enter a turn.

    `max_batch` bounds the rows of a batch, except that context before its first triggering row always comes along.
    A scheduled row (`tries` 0, `process_after` in the future) is passed over until it is due. A retry that is not due
    yet holds back everything after it: the conversation keeps its order.
    """
    candidates = sorted((row for row in rows if is_candidate(row, generation)), key=lambda row: row.seq)
    ready_control = (row.id for row in candidates if row.kind == MessageInKind.CONTROL and is_ready(row, now))
    waiting = (row.process_after for row in candidates if row.process_after is not None and not is_ready(row, now))
    return Choice(
        batch=_batch([row for row in candidates if row.kind != MessageInKind.CONTROL], max_batch, now),
        control=tuple(ready_control),
        due=min(waiting, default=None),
    )


def _batch(candidates: list[MessageIn], max_batch: int, now: str) -> tuple[MessageIn, ...]:
    taken: list[MessageIn] = []
    length = 0  # of the batch so far; what is taken behind it is context that needs another trigger
    for row in candidates:
        is_retry = bool(row.trigger) and row.tries > 0
        if not is_ready(row, now):
            if is_retry:
                break
            continue
        if length and (len(taken) >= max_batch or is_retry):
            break
        if row.trigger and length and row.address != taken[length - 1].address:
            break
        taken.append(row)
        if row.trigger:
            length = len(taken)
            if is_retry:
                break
    return tuple(taken[:length])
