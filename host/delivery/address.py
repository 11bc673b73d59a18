"""Where a message of an agent's goes, and whether it may. Pure.

An agent writes to two kinds of places: the address a message of its session came from, and its destinations, which
are chats and other agents. What the row says in `channel_type`, `platform_id` and `thread_id` is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from host.delivery.check import CheckedMessage, RowRefused
from shared_schema.rows import Address, Destination


def address_of(
    message: CheckedMessage,
    *,
    replies: Mapping[str, Address],
    routing: Address | None,
    destinations: Sequence[Destination],
) -> Address:
    """The address of a message. Raises `RowRefused` when the agent may not write there.

    `replies` has the addresses of the messages of this session by id, `routing` is the session's default.
    """
    if message.destination is not None:
        return _destination(message.destination, destinations)
    if message.in_reply_to is not None:
        address = replies.get(message.in_reply_to)
        if address is None:
            raise RowRefused("it answers a message that is not of this session")
        return address
    if routing is None:
        raise RowRefused("it says neither where it goes nor what it answers")
    return routing


def _destination(name: str, destinations: Sequence[Destination]) -> Address:
    for destination in destinations:
        if destination.name != name:
            continue
        if destination.channel_type is not None and destination.platform_id is not None:
            return Address(destination.channel_type, destination.platform_id)
    raise RowRefused(f"'{name[:80]}' is not one of its destinations")
