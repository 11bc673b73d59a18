"""Messages that start a run, and notifications of MCP servers: those that fit the pattern of a trigger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from host.central import triggers
from host.central.database import Transaction
from host.central.messaging_groups import Engage
from host.routing.engage import engages
from host.routing.event import Event
from shared_schema.mcp_notices import Notification

_LONGEST = 4_000


def offer(tx: Transaction, event: Event, now: datetime) -> bool:
    """Give a message to the triggers that it fits; whether it is new for one of them."""
    address = event.address
    is_new = False
    for trigger in triggers.of_messages(tx, address.channel_type, address.platform_id):
        rule = Engage.ALL if trigger.pattern is None else Engage.PATTERN
        if engages(rule, trigger.pattern, text=event.text, is_mention=False, is_group=True):
            sender = event.sender_name or event.sender_id or "unknown"
            chat = f"{address.channel_type}:{address.platform_id}"
            text = f"From {sender} in {chat}:\n{event.text[:_LONGEST]}"
            is_new |= triggers.offer(tx, trigger, f"{chat}/{event.platform_message_id}", text, now)
    return is_new


def offer_notifications(tx: Transaction, agent_group_id: str, notifications: Sequence[Notification]) -> None:
    """Give what the MCP servers of an agent group notify of to the triggers that it fits."""
    for notification in notifications:
        for trigger in triggers.of_notifications(tx, agent_group_id, notification.server):
            said = f"{notification.method} {notification.text}"
            rule = Engage.ALL if trigger.pattern is None else Engage.PATTERN
            if engages(rule, trigger.pattern, text=said, is_mention=False, is_group=True):
                text = f"From {notification.server}: {said[:_LONGEST]}"
                triggers.offer(tx, trigger, f"mcp/{notification.key}", text, tx.at)
