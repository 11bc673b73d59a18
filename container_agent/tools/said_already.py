"""The same text is not said twice to the same message in one turn: by a tool, and again as the final answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from container_agent.providers.protocol import Reply, TurnRequest
from shared_schema.rows import MessageOutKind

Place = tuple[str | None, ...]


def not_said_yet(replies: Iterable[Reply], sent: Sequence[Reply], request: TurnRequest) -> list[Reply]:
    """The final replies without those that say nothing but what was `sent` in answer to the same message, to the same
    place.

    White space around and within the text does not count. A reply with files is never a repeat. Two messages may have
    the same answer.
    """
    said = {_saying(reply, request) for reply in sent if reply.kind == MessageOutKind.CHAT}
    return [
        reply
        for reply in replies
        if reply.files or reply.kind != MessageOutKind.CHAT or _saying(reply, request) not in said
    ]


def _saying(reply: Reply, request: TurnRequest) -> tuple[str | None, Place, str]:
    """The message that is answered, where the answer goes, and its text without its spaces."""
    answered = reply.in_reply_to or next((message.id for message in reversed(request.triggering)), None)
    return answered, _place(reply, answered, request), " ".join(reply.text.split())


def _place(reply: Reply, answered: str | None, request: TurnRequest) -> Place:
    """Where a reply goes; a destination that is the very chat is the same place."""
    if reply.destination is not None:
        for destination in request.destinations:
            if destination.name == reply.destination and destination.channel_type is not None:
                return (destination.channel_type, destination.platform_id, None)
        return (reply.destination,)
    for message in request.messages:
        if message.id == answered:
            return message.address
    return ()
