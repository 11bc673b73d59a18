"""An inbound event by hand: as if the platform had sent it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from host.central import messaging_groups
from host.routing.event import Event
from host.services import Services
from host.sessions.attachments import Attachment
from shared_schema.errors import InvalidValue
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address


async def inject(
    services: Services,
    *,
    messaging_group: str,
    text: str,
    sender: str | None = None,
    sender_name: str | None = None,
    thread: str | None = None,
    mention: bool = False,
    files: list[str] | None = None,
    platform_message_id: str | None = None,
    reply_to: str | None = None,
) -> dict[str, Any]:
    """Hand an event to the router; what was accepted is on disk when this returns. Raises what the router raises.

    Without a `sender` it is the owner's own; with one, the rules of the chat decide whether that sender may speak.
    """
    if not text and not files:
        raise InvalidValue("there is neither a text nor a file", hint="write a text, or `--file FILE`")
    group = await services.central.read(messaging_groups.get_by_name, messaging_group)
    receipt = await services.router.ingest(
        Event(
            address=Address(group.channel_type, group.platform_id, thread),
            platform_message_id=platform_message_id or new_id(Prefix.MESSAGE),
            text=text,
            sender_id=sender,
            sender_name=sender_name,
            is_mention=mention,
            reply_to=reply_to,
            attachments=tuple(Attachment(Path(file).name, Path(file)) for file in files or []),
            by_owner=sender is None,
        )
    )
    return {
        "accepted": [
            {
                "message_id": accepted.message_id,
                "session_id": accepted.session_id,
                "agent_group": accepted.agent_group,
                "duplicate": accepted.duplicate,
            }
            for accepted in receipt.accepted
        ],
        "dropped": receipt.dropped,
    }
