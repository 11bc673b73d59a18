"""Answers that grow as streams of Slack's (`chat.startStream`), where it offers them: in threads, to who has asked.

A stream only gets longer. What is changed otherwise, or grows after its stream has ended, is an ordinary message from
then on and is edited; at the end each is, so that it has formatting and buttons as every other message.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from host.channels.protocol import Outgoing
from host.channels.slack.client import SlackApi, SlackError
from host.latest import Latest
from shared_schema.rows import Address

log = logging.getLogger(__name__)

_NOT_OFFERED = frozenset(
    {
        "unknown_method", "method_deprecated", "not_allowed_token_type", "missing_scope", "team_not_found",
        "feature_not_enabled", "access_denied", "paid_teams_only", "team_access_not_granted",
    }
)  # fmt: skip
"""What Slack answers where there are no streams for this app at all."""
_MAX_PIECE = 12_000
_REMEMBERED = 500


class Streams:
    """The streams that are open. `team_id` is the workspace, once it is known."""

    def __init__(self, api: Callable[[], SlackApi]) -> None:
        self._api = api
        self._shown = Latest[str, str](_REMEMBERED)
        self._is_offered = True
        self.team_id: str | None = None

    async def start(self, message: Outgoing) -> str | None:
        """Begin a stream with what there is of an answer; its `ts`. None: Slack has no stream for it.

        Raises `ChannelUnavailable`.
        """
        address = message.address
        if not self._is_offered or address.thread_id is None or len(message.text) > _MAX_PIECE:
            return None
        try:
            answer = await self._api().call(
                "chat.startStream",
                channel=address.platform_id,
                thread_ts=address.thread_id,
                markdown_text=message.text,
                recipient_team_id=self.team_id,
                recipient_user_id=message.for_user,
            )
        except SlackError as error:
            self._is_offered = error.code not in _NOT_OFFERED
            log.info("Slack offers no stream here", extra={"error": error.code})
            return None
        ts = answer.get("ts")
        if not isinstance(ts, str) or not ts:
            return None
        self._shown[ts] = message.text
        return ts

    async def grow(self, address: Address, ts: str, text: str) -> bool:
        """Add to a stream what a text has besides what is shown. False: it is none, and is to be edited."""
        shown = self._shown.get(ts)
        if shown is None:
            return False
        more = text.removeprefix(shown)
        if not text.startswith(shown) or len(more) > _MAX_PIECE:
            await self.stop(address, ts)
            return False
        if more:
            try:
                await self._api().call("chat.appendStream", channel=address.platform_id, ts=ts, markdown_text=more)
            except SlackError as error:  # it has ended by itself, for instance
                log.debug("a stream does not grow any more", extra={"error": error.code})
                await self.stop(address, ts)
                return False
            self._shown[ts] = text
        return True

    async def stop(self, address: Address, ts: str) -> None:
        """End a stream, if it is one: what follows edits the message."""
        if self._shown.pop(ts, None) is None:
            return
        await self.end(address, ts)

    async def end(self, address: Address, ts: str) -> None:
        """End the stream that a message may be, also one that an earlier host has begun."""
        try:
            await self._api().call("chat.stopStream", channel=address.platform_id, ts=ts)
        except SlackError as error:
            log.debug("a stream was not ended", extra={"error": error.code})
