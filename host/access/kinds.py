"""The kinds of approvals: one entry for each. What all of them have in common is in `approvals.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

from host.access.cards import ApprovalChoice
from host.access.standing import Standing
from host.central.approvals import Approval
from host.central.database import Queryable, Transaction
from shared_schema.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class ApprovalDecision:
    """A yes: who says it, and which way."""

    approval: Approval
    choice: ApprovalChoice
    decider: Standing


@dataclass(frozen=True, slots=True)
class ApprovalOutcome:
    """What came of a yes, as a sentence; `agent_groups` are the ids of those whose agents are to be told."""

    sentence: str
    agent_groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ApprovalKind:
    """One kind of approval.

    `question` is the first line of a card, `choices` the ways to say yes (one at least). `approved` does what was asked
    for, in the transaction of the decision, and raises `DumbwaiterError` when that cannot be done any more: the
    approval stays open then. `told` is the sentence that tells the person who waits of a no or of the end of the time;
    None: there is no such person.
    """

    name: str
    question: str
    choices: Callable[[Queryable, Mapping[str, Any]], Sequence[ApprovalChoice]]
    approved: Callable[[Transaction, ApprovalDecision], ApprovalOutcome]
    denied: str | None = None
    expired: str | None = None
    closed: Callable[[Transaction, Approval], None] | None = None
    """Hears of the end of an approval, however it ends, in its transaction."""
    hidden: frozenset[str] = field(default_factory=frozenset)
    """Arguments that are kept for `approved` and say nothing that another one does not say: ids."""
