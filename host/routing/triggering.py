"""Messages that start a run: those of a channel or a chat that fit the pattern of a trigger."""

from __future__ import annotations

from datetime import datetime

from host.central import triggers
from host.central.database import Transaction
from host.central.messaging_groups import Engage
from host.routing.engage import engages
from host.routing.event import Event

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
