"""Sending to Slack, so that a message is there once.

Slack takes no idempotency key. Each message of ours carries its key as metadata instead, which people do not see. Where
it is not known whether a message arrived (the connection was cut, the last host was killed), the chat is read for its
key before it is sent again. In the ordinary case that costs no call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from host.channels.protocol import Button, ChannelUnavailable, DeliveryRefused, Outgoing
from host.channels.slack.client import SlackApi, SlackError, cursor_in
from host.channels.slack.emoji import to_name
from host.channels.slack.files import share
from host.channels.slack.streams import Streams
from host.channels.slack.text import to_mrkdwn
from host.latest import Latest
from shared_schema.pages import PageCursors
from shared_schema.rows import Address

log = logging.getLogger(__name__)

EVENT_TYPE = "dumbwaiter_message"
_MAX_EDIT = 4_000  # characters of `text` that chat.update takes
_MAX_SECTION = 3_000
_MAX_BLOCKS = 50
_BUTTONS_A_ROW = 25
_REMEMBERED = 5_000
_DOUBTFUL_SECONDS = 120.0
_LOOK_BACK_SECONDS = 48 * 3600.0
_PAGES, _PAGE = 5, 200


class SlackSender:
    """Posts messages and files. It outlives the connections of its channel: it knows what is sent, and what is unsure.

    `now` gives seconds since 1970 by Slack's clock. `own_ids` are the ids under which we write.
    """

    def __init__(
        self, api: Callable[[], SlackApi], session: Callable[[], aiohttp.ClientSession], now: Callable[[], float]
    ) -> None:
        self._api = api
        self._session = session
        self._now = now
        self.streams = Streams(api)
        self.own_ids: frozenset[str] = frozenset()
        self._done = Latest[str, str](_REMEMBERED)
        self._posted = Latest[str, str](_REMEMBERED)
        self._unsure: set[str] = set()
        self._doubtful_until = 0.0

    def doubt(self) -> None:
        """An earlier host was killed: for a while each message may have been sent by it."""
        self._doubtful_until = self._now() + _DOUBTFUL_SECONDS

    @property
    def is_sure(self) -> bool:
        """Whether it is known of every message if it arrived."""
        return not self._unsure

    async def send(self, message: Outgoing) -> str:
        """Send a message with its files; its `ts`. Raises the errors of the protocol, and `SlackError`."""
        if (done := self._done.get(message.key)) is not None:
            return done
        ours: list[Mapping[str, Any]] = []
        if message.key in self._unsure or self._now() < self._doubtful_until:
            ours = await self._ours(message.address)
        self._unsure.add(message.key)
        try:
            ts = await self._text(message)
            if message.files and not _has_files(ours, ts, message.files):
                await share(self._api(), self._session(), message.address, message.files)
        except (SlackError, DeliveryRefused):
            self._unsure.discard(message.key)  # it surely did not arrive
            raise
        self._unsure.discard(message.key)
        self._done[message.key] = ts
        return ts

    async def _text(self, message: Outgoing) -> str:
        if message.draft_id is not None:
            await self.streams.stop(message.address, message.draft_id)
            await self._update(message.address, message.draft_id, message.text, message.buttons)
            return message.draft_id
        if (ts := self._posted.get(message.key)) is not None:
            return ts
        if message.is_draft and (stream := await self.streams.start(message)) is not None:
            self._posted[message.key] = stream
            return stream
        # A message of files alone gets their names as its text: only what has a text can carry the key.
        text = message.text if message.text.strip() else ", ".join(path.name for path in message.files)
        written = to_mrkdwn(text)
        answer = await self._api().call(
            "chat.postMessage",
            channel=message.address.platform_id,
            thread_ts=message.address.thread_id,
            text=written,
            blocks=blocks_of(written, message.buttons) if message.buttons else None,
            metadata={"event_type": EVENT_TYPE, "event_payload": {"key": message.key}},
            unfurl_links=False,
            unfurl_media=False,
        )
        ts = answer.get("ts")
        if not isinstance(ts, str) or not ts:
            raise ChannelUnavailable("Slack took a message and gave it no ts")
        self._posted[message.key] = ts
        return ts

    async def edit(self, address: Address, ts: str, text: str, buttons: Sequence[Button]) -> None:
        """Replace a message of ours, or let a stream grow. Raises the errors of the protocol, and `SlackError`."""
        if buttons or not await self.streams.grow(address, ts, text):
            await self._update(address, ts, text, buttons)

    async def delete(self, address: Address, ts: str) -> None:
        """Take a message of ours away, if it is still there. Raises as `edit`."""
        try:
            await self._api().call("chat.delete", channel=address.platform_id, ts=ts)
        except SlackError as error:
            if error.code != "message_not_found":
                raise

    async def react(self, address: Address, ts: str, emoji: str | None) -> None:
        """Put a reaction on a message; None takes ours away. Raises as `edit`."""
        place = {"channel": address.platform_id, "timestamp": ts}
        if emoji is None:
            await self._take_away_reactions(place)
            return
        name = to_name(emoji)
        if name is None:
            raise DeliveryRefused(f"Slack has no reaction {emoji[:20]}")
        try:
            await self._api().call("reactions.add", name=name, **place)
        except SlackError as error:
            if error.code != "already_reacted":
                raise

    async def typing(self, address: Address) -> None:
        """Show that we work on an answer. Raises `ChannelUnavailable`."""
        if address.thread_id is None:  # Slack has a sign for threads alone
            return
        try:
            await self._api().call(
                "assistant.threads.setStatus",
                channel_id=address.platform_id,
                thread_ts=address.thread_id,
                status="is working on an answer…",
            )
        except SlackError as error:  # a nicety: some chats have it not
            log.debug("the status of a thread cannot be set", extra={"error": error.code})

    async def _take_away_reactions(self, place: Mapping[str, str]) -> None:
        answer = await self._api().call("reactions.get", **place)
        message = answer.get("message")
        reactions = message.get("reactions") if isinstance(message, Mapping) else None
        for reaction in reactions if isinstance(reactions, list) else []:
            users = reaction.get("users") if isinstance(reaction, Mapping) else None
            if isinstance(users, list) and any(user in self.own_ids for user in users if isinstance(user, str)):
                try:
                    await self._api().call("reactions.remove", name=str(reaction.get("name")), **place)
                except SlackError as error:
                    if error.code != "no_reaction":
                        raise

    async def _update(self, address: Address, ts: str, text: str, buttons: Sequence[Button]) -> None:
        try:
            await self._replace(address, ts, text, buttons)
        except SlackError as error:
            if error.code != "streaming_state_conflict":
                raise
            await self.streams.end(address, ts)  # a stream that an earlier host has begun
            await self._replace(address, ts, text, buttons)

    async def _replace(self, address: Address, ts: str, text: str, buttons: Sequence[Button]) -> None:
        written = to_mrkdwn(text)
        await self._api().call(
            "chat.update",
            channel=address.platform_id,
            ts=ts,
            text=written[:_MAX_EDIT],
            # An empty list takes away the buttons that were there.
            blocks=blocks_of(written, buttons) if buttons or len(written) > _MAX_EDIT else [],
        )

    async def _ours(self, address: Address) -> list[Mapping[str, Any]]:
        """Our own messages there of the last two days; the keys that they carry are noted."""
        if not self.own_ids:
            raise ChannelUnavailable("the channel is not connected")
        method = "conversations.history" if address.thread_id is None else "conversations.replies"
        cursor: str | None = None
        found: list[Mapping[str, Any]] = []
        cursors = PageCursors(_PAGES)
        while True:
            try:
                answer = await self._api().call(
                    method,
                    channel=address.platform_id,
                    ts=address.thread_id,
                    oldest=f"{self._now() - _LOOK_BACK_SECONDS:.6f}",
                    limit=_PAGE,
                    include_all_metadata=True,
                    cursor=cursor,
                )
            except SlackError:  # a chat that cannot be read: what is wrong with it, sending will say
                return found
            messages = answer.get("messages")
            found += [each for each in messages if self._is_ours(each)] if isinstance(messages, list) else []
            cursor = cursors.next(cursor_in(answer))
            if cursor is None:
                break
        for message in found:
            metadata = message.get("metadata")
            payload = metadata.get("event_payload") if isinstance(metadata, Mapping) else None
            key = payload.get("key") if isinstance(payload, Mapping) else None
            if isinstance(key, str) and isinstance(ts := message.get("ts"), str):
                self._posted[key] = ts
        return found

    def _is_ours(self, message: object) -> bool:
        ids = (message.get("user"), message.get("bot_id")) if isinstance(message, Mapping) else ()
        return any(isinstance(each, str) and each in self.own_ids for each in ids)


def blocks_of(written: str, buttons: Sequence[Button]) -> list[dict[str, Any]]:
    """The blocks of a message: its text in sections that Slack takes, and its buttons. `written` is mrkdwn. Pure."""
    rows = [buttons[at : at + _BUTTONS_A_ROW] for at in range(0, len(buttons), _BUTTONS_A_ROW)][: _MAX_BLOCKS // 2]
    actions = [{"type": "actions", "elements": [_button(*each) for each in enumerate(row)]} for row in rows]
    sections: list[dict[str, Any]] = []
    while written and len(sections) < _MAX_BLOCKS - len(actions):
        at = len(written)
        if at > _MAX_SECTION:
            at = max(written.rfind("\n", 1, _MAX_SECTION), 0) or _MAX_SECTION
        sections.append({"type": "section", "text": {"type": "mrkdwn", "text": written[:at]}})
        written = written[at:].lstrip("\n")
    return sections + actions


def _button(number: int, button: Button) -> dict[str, Any]:
    label = button.label[:75] or "…"
    text = {"type": "plain_text", "text": label, "emoji": True}
    return {"type": "button", "action_id": f"choice-{number}", "text": text, "value": button.value}


def _has_files(ours: Sequence[Mapping[str, Any]], ts: str, files: Sequence[Path]) -> bool:
    """Whether a later message of ours has these files."""
    names = sorted(path.name for path in files)
    for message in ours:
        there, at = message.get("files"), message.get("ts")
        if isinstance(there, list) and isinstance(at, str) and at > ts:
            shown = sorted(str(each.get("title") or each.get("name")) for each in there if isinstance(each, Mapping))
            if shown == names:
                return True
    return False
