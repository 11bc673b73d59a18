"""What a message replies to or quotes, for the agent that takes it: found in the ledger by the platform's id."""

from __future__ import annotations

from host.central import deliveries, ingest
from host.central.database import Queryable
from host.routing.event import Event
from host.routing.text import preview
from shared_schema.errors import FileDamaged
from shared_schema.rows import decode

_MAX_QUOTE = 1_000


def replied_to(connection: Queryable, event: Event, agent_group_id: str) -> dict[str, str] | None:
    """`{message, sender, text}` as far as they are known; None for a message that replies to none.

    `message` is the id of a message that came in or went out here, `text` what is quoted, or else how it begins.
    """
    if event.reply_to is None and not event.quote:
        return None
    message_id, sender, text = _known(connection, event, agent_group_id)
    found = {"message": message_id, "sender": sender, "text": (event.quote or "")[:_MAX_QUOTE] or preview(text)}
    return {name: value for name, value in found.items() if value}


def _known(connection: Queryable, event: Event, agent_group_id: str) -> tuple[str, str, str]:
    """Id, sender and text of the message that is replied to; empty where it is not known."""
    if event.reply_to is None:
        return "", "", ""
    address = event.address
    row = ingest.known(connection, agent_group_id, address.channel_type, address.platform_id, event.reply_to)
    if row is None:
        row = ingest.get(connection, event.reply_to)
    if row is not None and (row.channel_type, row.platform_id) == (address.channel_type, address.platform_id):
        return row.message_id, row.sender_name or row.sender_id or "", _text(row.content)
    sent = deliveries.sent_as(connection, (address.channel_type, address.platform_id), event.reply_to)
    return ("", "", "") if sent is None else (sent["message_out_id"], "", _text(sent["content"]))


def _text(content: str) -> str:
    try:
        return str(decode(content).get("text") or "")
    except FileDamaged:
        return ""
