"""Which agents of a chat listen to a message, by who wrote it. Pure.

A chat says what becomes of unknown senders (`unknown_sender`): people who have no role with any agent of the chat. A
wiring says whom its agent listens to (`sender_scope`) of those the chat lets in. The order matters: what the chat
refuses is refused for all of its agents.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from host.access.standing import Standing
from host.central.messaging_groups import SenderScope, UnknownSender, Wiring
from shared_schema.dataclass import dataclass


class AdmissionVerdict(StrEnum):
    ADMITTED = "admitted"
    ASKED = "asked"  # those who may let them in are asked
    REFUSED = "refused"


UNKNOWN = "the sender is not known here"
NOT_A_MEMBER = "the sender is no member of any agent here"


@dataclass(frozen=True, slots=True)
class Admission:
    """`wirings` are those whose agents listen; `reason` says why there is none."""

    verdict: AdmissionVerdict
    wirings: tuple[Wiring, ...] = ()
    reason: str = ""


def asks_who_it_is(unknown_sender: str, wirings: Sequence[Wiring]) -> bool:
    """Whether the answer depends on who the sender is."""
    return unknown_sender != UnknownSender.PUBLIC or any(
        wiring.sender_scope == SenderScope.MEMBERS for wiring in wirings
    )


def admission(unknown_sender: str, wirings: Sequence[Wiring], sender: Standing | None) -> Admission:
    """Returns who listens to a sender; `sender` is None for a person of whom nothing is known."""
    members = [wiring for wiring in wirings if sender is not None and sender.belongs_to(wiring.agent_group_id)]
    is_known = bool(members) or (sender is not None and sender.is_owner)
    if not is_known and unknown_sender != UnknownSender.PUBLIC:
        asks = unknown_sender == UnknownSender.PAIR and sender is not None
        return Admission(AdmissionVerdict.ASKED if asks else AdmissionVerdict.REFUSED, reason=UNKNOWN)
    listening = tuple(wiring for wiring in wirings if wiring.sender_scope != SenderScope.MEMBERS or wiring in members)
    if wirings and not listening:
        return Admission(AdmissionVerdict.REFUSED, reason=NOT_A_MEMBER)
    return Admission(AdmissionVerdict.ADMITTED, listening)
