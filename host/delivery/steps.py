"""The calls of a platform that one delivery is made of, in their order. What decides here is pure.

A message is sent part by part. An edit changes the messages that its target went out in, sends those that the new text
needs besides, and takes away those that it does not need any more. Steps are numbered like parts: one that was made
before a crash is not made again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from host.channels.protocol import Capabilities, Channel, DeliveryRefused, Outgoing
from host.delivery.split import split
from shared_schema.dataclass import dataclass
from shared_schema.rows import Address

GONE = "(This part of the message is not needed any more.)"


@dataclass(frozen=True, slots=True)
class DeliveryStep:
    """One call. `part_of` is the delivery whose part number `number` it is about; None: of none that is kept.

    `is_repeatable`: made twice, it comes to the same. `removes`: the part is gone then. `leaves`: how many parts there
    are after an edit.
    """

    call: Callable[[], Awaitable[str | None]]
    number: int
    is_repeatable: bool
    part_of: int | None = None
    removes: bool = False
    leaves: int | None = None


@dataclass(frozen=True, slots=True)
class EditTarget:
    """What an edit changes: a delivery (None: what is no delivery), how many parts it has, and the ids of those."""

    position: int | None
    parts: int
    ids: Mapping[int, str]


def sending(channel: Channel, parts: Sequence[Outgoing], position: int) -> list[DeliveryStep]:
    """The steps of sending a message in parts."""
    of = position if len(parts) > 1 else None
    return [
        DeliveryStep(partial(channel.deliver, part), number, channel.capabilities.idempotent, of)
        for number, part in enumerate(parts, 1)
    ]


def editing(channel: Channel, target: EditTarget, message: Outgoing, done: int) -> list[DeliveryStep]:
    """The steps of giving a message another text; `done` of them were made. `message` is the edit itself.

    Raises `DeliveryRefused` where the id of a message that must change is not known.
    """
    can, texts = (
        channel.capabilities,
        split(message.text, channel.capabilities.max_text, channel.capabilities.text_unit),
    )
    steps: list[DeliveryStep] = []
    for number in range(1, max(len(texts), target.parts, *target.ids) + 1):
        known, is_repeatable = target.ids.get(number), True
        call: Callable[[], Awaitable[str | None]] = _nothing
        if known is None and done < number <= target.parts:
            raise DeliveryRefused(f"it went out in {target.parts} messages, and it is not known which all of them are")
        if number > len(texts):
            if known is not None:
                call = _taking_away(channel, can, message.address, known)
        elif known is not None:
            call = partial(_edit, channel, message.address, known, texts[number - 1])
        elif number > target.parts:
            part = replace(message, key=f"{message.key}#{number}", text=texts[number - 1])
            call, is_repeatable = partial(channel.deliver, part), can.idempotent
        steps.append(DeliveryStep(call, number, is_repeatable, target.position, number > len(texts), len(texts)))
    return steps


def _taking_away(
    channel: Channel, can: Capabilities, address: Address, platform_message_id: str
) -> Callable[[], Awaitable[str | None]]:
    if can.deletes:
        return partial(_delete, channel, address, platform_message_id)
    return partial(_edit, channel, address, platform_message_id, GONE)


async def _edit(channel: Channel, address: Address, platform_message_id: str, text: str) -> None:
    await channel.edit(address, platform_message_id, text, ())


async def _delete(channel: Channel, address: Address, platform_message_id: str) -> None:
    await channel.delete(address, platform_message_id)


async def _nothing() -> None:
    return
