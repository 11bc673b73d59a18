"""Events that wait for a decision, as JSON in the approval, and back. Pure.

Files are not kept: a stranger fills no disk of ours. What was left out is said to the agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.routing.event import Event
from host.routing.text import truncate
from shared_schema.rows import Address
from shared_schema.text import one_line, without_lone_surrogates

_LONGEST_NAME = 200
LONGEST = 8_000
"""Characters of a text that waits."""

_FILES = "\n[files came with this message and were not kept while it waited: {names}]"


def to_json(event: Event) -> dict[str, Any]:
    """What is kept of an event."""
    text = truncate(event.text, LONGEST)
    # Names come as platforms send them; the text was looked at when it came in.
    files = [each.name for each in event.attachments] + [each.name for each in event.remote_files]
    if files:
        text += _FILES.format(names=", ".join(one_line(name, 80) for name in files[:10]))
    return {
        "channel_type": event.address.channel_type,
        "platform_id": event.address.platform_id,
        "thread_id": event.address.thread_id,
        "platform_message_id": event.platform_message_id,
        "text": text,
        "sender_id": event.sender_id,
        "sender_name": _stored(event.sender_name),
        "is_mention": event.is_mention,
        "is_group": event.is_group,
        "chat_name": _stored(event.chat_name),
        "reply_to": event.reply_to,
        "quote": event.quote,
    }


def _stored(name: str | None) -> str | None:
    return None if name is None else without_lone_surrogates(name)[:_LONGEST_NAME]


def from_json(kept: Mapping[str, Any]) -> Event:
    """The event again."""
    return Event(
        address=Address(kept["channel_type"], kept["platform_id"], kept["thread_id"]),
        platform_message_id=kept["platform_message_id"],
        text=kept["text"],
        sender_id=kept["sender_id"],
        sender_name=kept["sender_name"],
        is_mention=kept["is_mention"],
        is_group=kept["is_group"],
        chat_name=kept["chat_name"],
        reply_to=kept["reply_to"],
        quote=kept["quote"],
    )
