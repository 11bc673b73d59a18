"""Schedules that an agent asks for, where its admins want to be asked: it waits, and begins with their yes."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from host.access.cards import ApprovalChoice
from host.access.kinds import ApprovalDecision, ApprovalKind, ApprovalOutcome
from host.central import agent_groups, audit, schedules
from host.central.schedules import Schedule
from shared_schema.errors import Conflict


def subject_of(schedule: Schedule) -> str:
    """What an approval of a schedule is about."""
    return schedule.id


def _choices(connection: sqlite3.Connection, arguments: Mapping[str, Any]) -> Sequence[ApprovalChoice]:
    """One way to say yes, while the agent is there."""
    group = agent_groups.by_id(connection, arguments["agent_group_id"])
    return [] if group is None else [ApprovalChoice("yes", "Yes", group.id)]


def _approved(connection: sqlite3.Connection, decision: ApprovalDecision) -> ApprovalOutcome:
    """What was due meanwhile is treated by the schedule's rule for missed times."""
    found = schedules.lookup(connection, decision.approval.about["id"])
    if found is None or found.status != "waiting":
        raise Conflict("The agent has taken it back.")
    schedules.set_status(connection, found.id, "active", None, keep_next=True)
    audit.record(connection, "schedule.approve", found.name, decision.now, after={"status": "active"})
    return ApprovalOutcome(f"The schedule '{found.name}' runs.")


AGENT_SCHEDULE = ApprovalKind(
    name="schedule",
    question="An agent wants to do something by itself at a time. Let it?",
    choices=_choices,
    approved=_approved,
    hidden=frozenset({"id", "agent_group_id"}),
)
