"""Schedules that an agent asks for, where its admins want to be asked: it waits, and begins with their yes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from host.access import told_to_agents
from host.access.cards import ApprovalChoice
from host.access.kinds import ApprovalDecision, ApprovalKind, ApprovalOutcome
from host.central import agent_groups, audit, schedules
from host.central.approvals import Approval, ApprovalState
from host.central.database import Queryable, Transaction
from host.central.schedules import Schedule
from shared_schema.errors import Conflict


def subject_of(schedule: Schedule) -> str:
    """What an approval of a schedule is about."""
    return schedule.id


def _choices(connection: Queryable, arguments: Mapping[str, Any]) -> Sequence[ApprovalChoice]:
    """One way to say yes, while the agent is there."""
    group = agent_groups.by_id(connection, arguments["agent_group_id"])
    return [] if group is None else [ApprovalChoice("yes", "Yes", group.id)]


def _approved(tx: Transaction, decision: ApprovalDecision) -> ApprovalOutcome:
    """What was due meanwhile is treated by the schedule's rule for missed times."""
    found = schedules.lookup(tx, decision.approval.about["id"])
    if found is None or found.status != "waiting":
        raise Conflict("The agent has taken it back.")
    schedules.set_status(tx, found.id, "active", None, keep_next=True)
    audit.record(tx, "schedule.approve", found.name, after={"status": "active"})
    return ApprovalOutcome(f"The schedule '{found.name}' runs.")


def _closed(tx: Transaction, approval: Approval) -> None:
    """The agent is told; what was not approved does not wait for ever."""
    about = approval.about
    found = schedules.lookup(tx, about["id"])
    said = "approved" if approval.state == ApprovalState.APPROVED else "not approved"
    if found is not None and found.status == "waiting" and approval.state != ApprovalState.APPROVED:
        schedules.set_status(tx, found.id, "cancelled", f"it was {said}")
    if isinstance(session_id := about.get("session_id"), str):
        key, text = f"schedule-approval:{approval.id}", f"Your task '{about['schedule']}' is {said}."
        told_to_agents.tell(tx, session_id, key, text, {})


AGENT_SCHEDULE = ApprovalKind(
    name="schedule",
    question="An agent wants to do something by itself at a time. Let it?",
    choices=_choices,
    approved=_approved,
    closed=_closed,
    hidden=frozenset({"id", "agent_group_id", "session_id"}),
)
