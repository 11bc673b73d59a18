"""A chat goes on under another id: its wirings and its sessions are those of the new one, and people are told."""

from __future__ import annotations

from host.access import approvals
from host.access.unknown_chat import UNKNOWN_CHAT
from host.central import approvals as table
from host.central import audit, chat_moves, host_messages, messaging_groups
from host.central.agent_groups import AgentGroupChanged
from host.central.audit import Actor
from host.central.database import Transaction
from host.routing.acceptance import RoutingOutcome
from host.routing.event import ChatMoved, Receipt, require_identifiers
from host.routing.route_key import chat_prefixes
from shared_schema.rows import Address

_MERGED = "This chat goes on here, with its agent and its conversations."
_BESIDE = " What was said here meanwhile is a conversation of its own: /resume lists it."


def moved(tx: Transaction, event: ChatMoved) -> RoutingOutcome:
    """Move a chat with all that belongs to it. Raises `InvalidValue` for ids that cannot be."""
    channel, old, new = event.channel, event.old_platform_id, event.new_platform_id
    for platform_id in (old, new):
        require_identifiers(Address(channel, platform_id, None))
    outcome = RoutingOutcome(Receipt(()))
    prefixes = list(zip(chat_prefixes(channel, old), chat_prefixes(channel, new), strict=True))
    done = chat_moves.move(tx, channel, old, new, prefixes)
    if done is None:
        return outcome
    before, after = f"{channel}:{old}", f"{channel}:{new}"
    with audit.acting(Actor("host", before)):
        merged = {"merged": done.merged}
        audit.record(tx, "messaging_group.move", after, before={"chat": before}, after=merged)
    group = messaging_groups.find(tx, channel, new)
    assert group is not None, "it was moved there"
    wirings = messaging_groups.wirings_of(tx, group.id)
    for wiring in wirings:
        tx.add(AgentGroupChanged(wiring.agent_group_id))
    # What was written under the new id before the move was known asks for nothing any more.
    waiting = table.open_for(tx, UNKNOWN_CHAT.name, after)
    if waiting is not None and wirings:
        approvals.close_moot(tx, waiting, f"the move of {before} to this chat", before)
    if done.merged:
        text = _MERGED + (_BESIDE if done.beside else "")
        host_messages.say(tx, f"moved/{before}/{after}", channel, new, text)
    return outcome
