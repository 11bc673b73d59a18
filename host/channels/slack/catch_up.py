"""What was written while we were away. Slack repeats an event for some minutes at most; the rest is asked for here.

Asked is from the last moment at which we surely heard. What was taken before is known by its `ts`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

from host.channels.slack.api import SlackApi, SlackError

log = logging.getLogger(__name__)

_MAX_CHATS = 500
_MAX_PAGES = 10
_MAX_THREADS = 50
_PAGE = 100


async def messages_since(api: SlackApi, moment: float) -> AsyncIterator[Mapping[str, Any]]:
    """The messages since `moment` (seconds since 1970) of the chats that we are in, as events; oldest first in a chat.

    A chat that cannot be read is left out. Raises `ChannelUnavailable`.
    """
    async for chat in _chats(api):
        channel = chat.get("id")
        if not isinstance(channel, str):
            continue
        kind = "im" if chat.get("is_im") else "mpim" if chat.get("is_mpim") else "channel"
        try:
            for message in await _of_chat(api, channel, moment):
                yield {**message, "type": "message", "channel": channel, "channel_type": kind}
        except SlackError as error:
            log.warning("a chat cannot be caught up", extra={"chat": channel, "error": error.code})


async def _chats(api: SlackApi) -> AsyncIterator[Mapping[str, Any]]:
    cursor, count = "", 0
    while count < _MAX_CHATS:
        try:
            answer = await api.call(
                "users.conversations",
                types="public_channel,private_channel,mpim,im",
                exclude_archived=True,
                limit=_PAGE,
                cursor=cursor or None,
            )
        except SlackError as error:
            log.warning("what was written meanwhile cannot be caught up", extra={"error": error.code})
            return
        for chat in _list(answer.get("channels")):
            count += 1
            yield chat
        cursor = _cursor(answer)
        if not cursor:
            return


async def _of_chat(api: SlackApi, channel: str, moment: float) -> list[Mapping[str, Any]]:
    found = [
        each for each in await _pages(api, "conversations.history", moment, channel=channel) if _is_new(each, moment)
    ]
    # A thread's answers stand in no history: those with new ones are found by their first messages.
    recent = await api.call("conversations.history", channel=channel, limit=_PAGE)
    threads = [each for each in _list(recent.get("messages")) if _seconds(each.get("latest_reply")) > moment]
    for parent in threads[:_MAX_THREADS]:
        answers = await _pages(api, "conversations.replies", moment, channel=channel, ts=str(parent.get("ts")))
        found += [each for each in answers if each.get("ts") != parent.get("ts") and _is_new(each, moment)]
    known: dict[str, Mapping[str, Any]] = {str(each.get("ts")): each for each in found}
    return [known[ts] for ts in sorted(known, key=_seconds)]


async def _pages(api: SlackApi, method: str, moment: float, **arguments: str) -> list[Mapping[str, Any]]:
    cursor: str | None = None
    found: list[Mapping[str, Any]] = []
    for _ in range(_MAX_PAGES):
        answer = await api.call(method, oldest=f"{moment:.6f}", limit=_PAGE, cursor=cursor, **arguments)
        found += _list(answer.get("messages"))
        cursor = _cursor(answer) or None
        if cursor is None:
            break
    return found


def _is_new(message: Mapping[str, Any], moment: float) -> bool:
    return _seconds(message.get("ts")) > moment


def _seconds(value: object) -> float:
    try:
        return float(value) if isinstance(value, str) else 0.0
    except ValueError:
        return 0.0


def _cursor(answer: Mapping[str, Any]) -> str:
    metadata = answer.get("response_metadata")
    cursor = metadata.get("next_cursor") if isinstance(metadata, Mapping) else None
    return cursor if isinstance(cursor, str) else ""


def _list(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
