"""Unknown chats: the bot is spoken to where no agent serves, and those who may wire the chat are asked.

A yes wires the chat to an agent group, and lets in the person who asked: a direct chat has no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from host.access.cards import ApprovalChoice
from host.access.kinds import ApprovalDecision, ApprovalKind, ApprovalOutcome
from host.access.pairing import make_member
from host.access.standing import standing_of
from host.central import agent_groups, audit, chat_moves, messaging_groups, users
from host.central.database import Queryable, Transaction
from host.central.messaging_groups import Engage, MessagingGroup, SessionMode, Wiring, default_unknown_sender
from shared_schema.errors import Conflict
from shared_schema.ids import Prefix, new_id

MOST_CHOICES = 20


def _choices(connection: Queryable, arguments: Mapping[str, Any]) -> Sequence[ApprovalChoice]:
    """The agent groups that the card names, as far as they are still there."""
    there = {group.name: group.id for group in agent_groups.all_groups(connection)}
    return [ApprovalChoice(name, name, there[name]) for name in arguments["agents"] if name in there]


def _approved(tx: Transaction, decision: ApprovalDecision) -> ApprovalOutcome:
    about = decision.approval.about
    agent = decision.choice.agent_group_id
    assert agent is not None, "every choice is an agent group"
    chat = register(tx, about["chat"], name=about["chat_name"], is_group=about["group"])
    if messaging_groups.wirings_of(tx, chat.id):
        raise Conflict(f"{chat.address} is wired already.")
    wire(tx, chat, agent, decision.choice.label)
    said = f"{chat.address} is wired to {decision.choice.label}."
    if about["user"] is not None and not standing_of(tx, about["user"]).belongs_to(agent):
        user = users.ensure(tx, about["user"], about["name"])
        if not about["group"]:
            users.seen(tx, user.id, chat.platform_id, about["name"])
        make_member(tx, user.id, user.person_id, agent, decision.choice.label)
    if about["group"]:
        said += (
            " It answers where it is mentioned, and hears its members there; "
            f"`dumbwaiter messaging-group set {chat.address} --unknown-sender public` lets everybody speak."
        )
    return ApprovalOutcome(said, (agent,))


def register(tx: Transaction, address: str, *, name: str | None, is_group: bool) -> MessagingGroup:
    """The messaging group of an address, added when it is not there."""
    channel, platform_id = messaging_groups.parse_address(address)
    platform_id = chat_moves.current(tx, channel, platform_id)
    found = messaging_groups.find(tx, channel, platform_id)
    if found is None:
        found = MessagingGroup(
            id=new_id(Prefix.MESSAGING_GROUP),
            channel_type=channel,
            platform_id=platform_id,
            name=name,
            is_group=int(is_group),
            created_at=tx.now,
            unknown_sender=default_unknown_sender(channel, is_group=is_group),
        )
        messaging_groups.insert(tx, found)
        audit.record(tx, "messaging_group.add", found.address, after={"name": name, "is_group": is_group})
    return found


def wire(tx: Transaction, chat: MessagingGroup, agent_group_id: str, agent_group: str) -> None:
    """Wire a chat as suits it: in a direct chat all is meant for the agent; in a group what mentions it, by threads."""
    messaging_groups.wire(
        tx,
        Wiring(
            id=new_id(Prefix.WIRING),
            messaging_group_id=chat.id,
            agent_group_id=agent_group_id,
            session_mode=SessionMode.PER_THREAD if chat.is_group else SessionMode.SHARED,
            per_user=0,
            engage=Engage.MENTION if chat.is_group else Engage.ALL,
            pattern=None,
            created_at=tx.now,
            sticky=chat.is_group,
        ),
    )
    audit.record(
        tx,
        "wiring.add",
        f"{chat.address} {agent_group}",
        after={"engage": "mention-sticky" if chat.is_group else "all"},
    )


UNKNOWN_CHAT = ApprovalKind(
    name="unknown-chat",
    question="A person speaks to the bot in a chat that is wired to no agent. Wire it, and let them speak?",
    choices=_choices,
    approved=_approved,
    denied="The owner of this bot does not want it to answer here.",
    expired="It was not decided within 24 hours whether this bot answers here. Write again to ask again.",
)
