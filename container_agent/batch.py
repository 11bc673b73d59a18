"""Which messages the next turn answers. Pure: rows in, a choice out.

Invariants:
- oldest first in `seq` order; nothing that is ready is skipped;
- a batch ends with a row that triggers, so context (`trigger` 0) is never answered alone;
- its triggering rows have one reply address, so that no reply can go to the chat that merely spoke last;
- a row that was tried before is the only triggering row of its batch: a message that kills the agent takes no other
  along;
- a control task of the host (a `control` row) is a batch of its own, and comes first.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared_schema.dataclass import dataclass
from shared_schema.errors import FileDamaged
from shared_schema.rows import ControlTask, MessageIn, MessageInKind, MessageInStatus, decode


@dataclass(frozen=True, slots=True)
class BatchChoice:
    """What to do next: all but `due`, the stored time when the next row gets ready, may be empty.

    `batch` is for a turn; with a `control_task` it is that row alone. `unknown` are the ids of control
    rows that ask for something this agent does not know.
    """

    batch: tuple[MessageIn, ...] = ()
    control_task: ControlTask | None = None
    unknown: tuple[str, ...] = ()
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


def control_task_of(row: MessageIn) -> ControlTask | None:
    """What a control row asks for; None for what only a newer host knows."""
    try:
        asked = decode(row.content).get("do")
    except FileDamaged:
        return None
    return ControlTask(asked) if isinstance(asked, str) and asked in set(ControlTask) else None


def choose(rows: Iterable[MessageIn], *, generation: int, max_batch: int, now: str) -> BatchChoice:
    """The next batch out of the pending, unacknowledged `rows`, and the control rows that mean nothing here.

    `max_batch` bounds the rows of a batch, except that context before its first triggering row always comes along.
    A scheduled row (`tries` 0, `process_after` in the future) is passed over until it is due. A retry that is not due
    yet holds back everything after it: the conversation keeps its order.
    """
    candidates = sorted((row for row in rows if is_candidate(row, generation)), key=lambda row: row.seq)
    waiting = (row.process_after for row in candidates if row.process_after is not None and not is_ready(row, now))
    due = min(waiting, default=None)
    control = [row for row in candidates if row.kind == MessageInKind.CONTROL and is_ready(row, now)]
    unknown = tuple(row.id for row in control if control_task_of(row) is None)
    for row in control:
        if control_task := control_task_of(row):
            return BatchChoice((row,), control_task, unknown, due)
    talk = [row for row in candidates if row.kind != MessageInKind.CONTROL]
    return BatchChoice(_batch(talk, max_batch, now), None, unknown, due)


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
