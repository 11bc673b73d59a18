"""Edits and reactions: which message of the platform an agent means, and the call that changes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial

from host.central import deliveries, ingest
from host.central.database import Central
from host.central.deliveries import Delivery
from host.channels.protocol import Channel, DeliveryRefused
from host.delivery.split import split
from shared_schema.rows import Address, MessageOutKind, decode

CHANGES = (MessageOutKind.EDIT, MessageOutKind.REACTION)


async def change_of(central: Central, channel: Channel, delivery: Delivery) -> Callable[[], Awaitable[None]] | None:
    """The call that edits a message or puts a reaction; None where the platform is given it as a message.

    Raises `DeliveryRefused` where there is nothing to change, and `FileTrouble`.
    """
    can, content = channel.capabilities, decode(delivery.content)
    is_edit = delivery.kind == MessageOutKind.EDIT
    if not (can.edits if is_edit else can.reactions):
        return None
    target = str(content.get("edit" if is_edit else "react_to", ""))
    found = await central.read(lambda c: _platform_id_of(c, delivery, target))
    if found is None:
        raise DeliveryRefused("the message it is about is not in this chat")
    address = Address(delivery.channel_type, delivery.platform_id, delivery.thread_id)
    if not is_edit:
        return partial(channel.react, address, found, str(content.get("emoji", "")))
    text = str(content.get("text", ""))
    if len(split(text, can.max_text, can.text_unit)) > 1:
        raise DeliveryRefused(f"the new text is longer than one message here, which has {can.max_text} at most")
    return partial(channel.edit, address, found, text, ())


def _platform_id_of(connection: sqlite3.Connection, delivery: Delivery, message_id: str) -> str | None:
    """The platform's id of a message of the same session in the same chat, sent or received; None: there is none."""
    row = deliveries.sent_of_session(connection, delivery.session_id, message_id)
    if row is None:
        received = ingest.get(connection, message_id)
        if received is None or received.session_id != delivery.session_id:
            return None
        chat, found = (received.channel_type, received.platform_id), received.platform_message_id
    else:
        chat, found = (row["channel_type"], row["platform_id"]), row["platform_message_id"]
    return found if chat == delivery.chat else None
