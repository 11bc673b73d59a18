"""Pairing: a stranger writes in a chat whose rule is `pair`, and those who may let them in are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from host.access.cards import ApprovalChoice
from host.access.kinds import ApprovalDecision, ApprovalKind, ApprovalOutcome
from host.central import agent_groups, audit, users
from host.central.database import Queryable, Transaction
from host.central.users import Role
from shared_schema.errors import Conflict

YES = "yes"


def _choices(connection: Queryable, arguments: Mapping[str, Any]) -> Sequence[ApprovalChoice]:
    return [ApprovalChoice(YES, "Let in")]


def _approved(tx: Transaction, decision: ApprovalDecision) -> ApprovalOutcome:
    """The stranger is a member of the agent groups of the chat that the decider may speak for."""
    about = decision.approval.about
    wanted = [agent_groups.by_id(tx, each) for each in about["agent_group_ids"]]
    groups = [group for group in wanted if group is not None and decision.decider.administers(group.id)]
    if not groups:
        raise Conflict("No agent serves that chat any more.")
    user = users.ensure(tx, about["user"], about["name"])
    if about["direct_chat"] is not None:
        users.seen(tx, user.id, about["direct_chat"], about["name"])
    for group in groups:
        make_member(tx, user.id, user.person_id, group.id, group.name)
    names = ", ".join(group.name for group in groups)
    return ApprovalOutcome(f"{user.id} is a member of {names}.")


def make_member(tx: Transaction, user: str, person_id: str, agent_group_id: str, agent_group: str) -> None:
    """Make a person a member of an agent group, if they are none."""
    if users.grant(tx, person_id, Role.MEMBER, agent_group_id):
        audit.record(tx, "member.add", user, after={"agent_group": agent_group})


PAIRING = ApprovalKind(
    name="pairing",
    question="A person who is not known asks to be let in.",
    choices=_choices,
    approved=_approved,
    denied="You were not let in here, and your message was not answered.",
    expired="You were not let in within 24 hours, and your message was not answered. Write again to ask again.",
    hidden=frozenset({"agent_group_ids", "direct_chat"}),
)
