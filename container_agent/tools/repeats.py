"""The same text is not said twice to the same place in one turn: by a tool, and again as the final answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from container_agent.providers.protocol import Reply, TurnRequest
from shared_schema.rows import MessageOutKind

Place = tuple[str | None, ...]


def without_repeats(replies: Iterable[Reply], sent: Sequence[Reply], request: TurnRequest) -> list[Reply]:
    """The final replies without those that say nothing but what was `sent` in this turn to the same place.

    White space around and within the text does not count. A reply with files is never a repeat.
    """
    said = {(_place(reply, request), _plain(reply.text)) for reply in sent if reply.kind == MessageOutKind.CHAT}
    return [
        reply
        for reply in replies
        if reply.files or reply.kind != MessageOutKind.CHAT or (_place(reply, request), _plain(reply.text)) not in said
    ]


def _plain(text: str) -> str:
    return " ".join(text.split())


def _place(reply: Reply, request: TurnRequest) -> Place:
    """Where a reply goes; a destination that is the very chat is the same place."""
    if reply.destination is not None:
        for destination in request.destinations:
            if destination.name == reply.destination and destination.channel_type is not None:
                return (destination.channel_type, destination.platform_id, None)
        return (reply.destination,)
    answered = reply.in_reply_to or next((message.id for message in reversed(request.triggering)), None)
    for message in request.messages:
        if message.id == answered:
            return message.address
    return ()
