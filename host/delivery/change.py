"""Edits and reactions: which message of the platform an agent means, and the calls that change it."""

from __future__ import annotations

from dataclasses import replace

from host.central import deliveries, delivery_parts, ingest
from host.central.database import Central, Queryable
from host.central.deliveries import Delivery
from host.channels.protocol import Channel, DeliveryRefused, Outgoing
from host.delivery.steps import DeliveryStep, EditTarget, editing
from shared_schema.rows import MessageOutKind, decode

CHANGES = (MessageOutKind.EDIT, MessageOutKind.REACTION)


async def change_of(
    central: Central, channel: Channel, delivery: Delivery, message: Outgoing
) -> list[DeliveryStep] | None:
    """The steps that edit a message or put a reaction; None where the platform is given it as a message.

    `message` is the delivery as a message. Raises `DeliveryRefused` where there is nothing to change, and
    `FileTrouble`.
    """
    can, content = channel.capabilities, decode(delivery.content)
    is_edit = delivery.kind == MessageOutKind.EDIT
    if not (can.edits if is_edit else can.reactions):
        return None
    about = str(content.get("edit" if is_edit else "react_to", ""))
    target = await central.read(_target, delivery, about)
    if target is None:
        raise DeliveryRefused("the message it is about is not in this chat")
    if is_edit:
        text = replace(message, kind=MessageOutKind.CHAT, in_reply_to=None, reply_to=None, draft_id=None)
        return editing(channel, target, text, delivery.parts_sent)
    first, emoji = target.ids[min(target.ids)], str(content.get("emoji", ""))

    async def react() -> None:
        await channel.react(message.address, first, emoji)

    return [DeliveryStep(react, 1, is_repeatable=True)]


def _target(connection: Queryable, delivery: Delivery, message_id: str) -> EditTarget | None:
    """A message of the same session in the same chat, sent or received, as its platform knows it."""
    row = deliveries.sent_of_session(connection, delivery.session_id, message_id)
    if row is None:
        received = ingest.get(connection, message_id)
        if received is None or received.session_id != delivery.session_id:
            return None
        is_here = (received.channel_type, received.platform_id) == delivery.chat
        return EditTarget(None, 1, {1: received.platform_message_id}) if is_here else None
    ids = delivery_parts.of(connection, row["position"], row["platform_message_id"])
    is_here = (row["channel_type"], row["platform_id"]) == delivery.chat
    return EditTarget(row["position"], row["parts"], ids) if ids and is_here else None
