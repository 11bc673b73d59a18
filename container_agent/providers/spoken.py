"""Whether a turn has said something to who asked, by a tool. Pure."""

from __future__ import annotations

from container_agent.providers.model_seams import Speaking
from container_agent.providers.protocol import TurnOutput, TurnRequest

_MAY_BE_SILENT = frozenset({"heartbeat", "schedule"})
"""Kinds of session in which no person has asked."""


def has_answered(request: TurnRequest, out: TurnOutput) -> bool:
    """Whether the turn may end now without a word: every person who asked has an answer."""
    if request.context.kind in _MAY_BE_SILENT or not isinstance(out, Speaking):
        return request.context.kind in _MAY_BE_SILENT
    here = {(message.channel_type, message.platform_id) for message in request.triggering}
    there = {each.name: (each.channel_type, each.platform_id) for each in request.destinations}
    return any(reply.destination is None or there.get(reply.destination) in here for reply in out.sent)
