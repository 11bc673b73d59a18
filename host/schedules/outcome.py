"""What a run came to: from the outcome of its message and those of what was said in answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from host.central.schedule_runs import RunState
from host.schedules.heartbeat import OK
from shared_schema.dataclass import dataclass

SILENT = "[SILENT]"
"""What an agent answers in a run to send nothing."""
CHECKED = "its check found nothing to do"
"""The `stop_reason` of a turn whose check script said that the model need not be asked (container_agent/check.py)."""
_LONGEST_NOTE = 500


@dataclass(frozen=True, slots=True)
class Said:
    """One message in answer to a run: its state in the ledger, why it failed, until when it is held, and its chat."""

    status: str
    error: str | None
    held_until: str | None
    chat: str


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended; `state` DELIVERING: something is still to be sent."""

    state: RunState
    note: str | None = None
    delivery: str | None = None

    @property
    def has_failed(self) -> bool:
        """Whether it counts as a failure of its schedule."""
        return self.state in (RunState.FAILED, RunState.UNDELIVERED)


def is_silent(text: str) -> bool:
    """Whether an answer in a run says that there is nothing to say: the mark stands alone on its first or last line."""
    lines = [line.strip().strip("*`_ ") for line in text.strip().splitlines() if line.strip()]
    return bool(lines) and any(line.upper() in (SILENT, OK) for line in (lines[0], lines[-1]))


def outcome(status: str | None, error: str | None, said: Sequence[Said], stop_reason: str | None = None) -> RunOutcome:
    """What a run came to. `status` is that of its message, None when that is gone with its session."""
    if status is None:
        return RunOutcome(RunState.CANCELLED, "its session was removed")
    if status == "cancelled":
        return RunOutcome(RunState.CANCELLED, "it was stopped")
    if status == "failed":
        return RunOutcome(RunState.FAILED, (error or "its turn failed")[:_LONGEST_NOTE], _delivery(said))
    waiting = [each for each in said if each.status in ("pending", "sending")]
    if waiting:
        held = min((each.held_until for each in waiting if each.held_until), default=None)
        return RunOutcome(RunState.DELIVERING, None, "waits to be sent" if held is None else f"held until {held}")
    failed = [each for each in said if each.status == "failed"]
    if failed:
        why = f"what it said did not arrive in {failed[0].chat}: {failed[0].error or 'unknown'}"
        return RunOutcome(RunState.UNDELIVERED, why[:_LONGEST_NOTE], _delivery(said))
    if all(each.status == "suppressed" for each in said):
        note = stop_reason if stop_reason == CHECKED else None
        return RunOutcome(RunState.SILENT, note, "nothing was sent")
    return RunOutcome(RunState.OK, None, _delivery(said))


def _delivery(said: Sequence[Said]) -> str:
    """What became of all that was said, in a few words."""
    counts: dict[str, int] = {}
    for each in said:
        counts[each.status] = counts.get(each.status, 0) + 1
    if not counts:
        return "nothing was sent"
    return ", ".join(f"{count} {status}" if len(said) > 1 else status for status, count in counts.items())
