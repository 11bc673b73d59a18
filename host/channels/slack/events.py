"""What Slack sends, as what a host understands. Pure; every field may be missing, wrong, huge or hostile.

A message comes as `message` and, where it mentions us, as `app_mention` as well: both have the same `ts`, by which the
ledger knows the second. Messages of apps, our own among them, are none of people's and are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.channels.slack.emoji import to_character
from host.channels.slack.text import from_mrkdwn, mentions
from host.routing.event import (
    ChatGone,
    ChatMoved,
    Clicked,
    Deleted,
    Edited,
    Event,
    Incoming,
    Joined,
    Reacted,
    RemoteFile,
)
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue
from shared_schema.rows import Address

_OF_PEOPLE = {None, "file_share", "thread_broadcast", "me_message"}
_GONE = {
    "channel_left": "the bot was removed from the channel",
    "group_left": "the bot was removed from the channel",
    "channel_deleted": "the channel is deleted",
    "group_deleted": "the channel is deleted",
    "channel_archive": "the channel is archived",
    "group_archive": "the channel is archived",
}
_MAX_FILES = 100
_MAX_NAME = 300


@dataclass(frozen=True, slots=True)
class SlackBot:
    """Who we are: the user id of the bot, and the id of its app's bot."""

    user_id: str
    bot_id: str | None = None


@dataclass(frozen=True, slots=True)
class SlackReader:
    """Reads events for the channel called `name`."""

    name: str
    us: SlackBot
    reply_in_thread: bool = True

    def event(self, event: Mapping[str, Any]) -> Incoming | None:
        """One event of the Events API; None for what means nothing to us. Raises `InvalidValue`."""
        match event.get("type"):
            case "message":
                return self._message(event)
            case "app_mention":
                return self._said(event)
            case "reaction_added" | "reaction_removed":
                return self._reaction(event)
            case "member_joined_channel" if event.get("user") == self.us.user_id:
                return Joined(self._address(event), sender_id=_text(event, "inviter"))
            case "channel_id_changed":
                return ChatMoved(self.name, _required(event, "old_channel_id"), _required(event, "new_channel_id"))
            case str(kind) if kind in _GONE:
                return ChatGone(self._address(event), _GONE[kind])
        return None

    def interaction(self, payload: Mapping[str, Any]) -> Clicked | None:
        """A button that was pressed. Raises `InvalidValue`."""
        if payload.get("type") != "block_actions":
            return None
        actions = payload.get("actions")
        action = _table(actions[0]) if isinstance(actions, list) and actions else {}
        if action.get("type") != "button":
            return None
        person, message = _table(payload.get("user")), _table(payload.get("message"))
        channel = _required(_table(payload.get("channel")), "id")
        ts, moment = _required(message, "ts"), _required(action, "action_ts")
        user_id = _required(person, "id")
        return Clicked(
            address=Address(self.name, channel, self._thread(message, channel, is_ours=True)),
            platform_message_id=ts,
            value=_required(action, "value"),
            click_id=f"{ts}/{user_id}/{moment}",
            sender_id=user_id,
            sender_name=_name(person.get("name") or person.get("username")),
        )

    def command(self, payload: Mapping[str, Any]) -> Event:
        """A slash command: `/dw new` is the command `/new` of ours. Raises `InvalidValue`."""
        command, text = _required(payload, "command"), _text(payload, "text") or ""
        own = command.removeprefix("/").partition("-")[0] in ("dw", "dumbwaiter")
        channel = _required(payload, "channel_id")
        return Event(
            address=Address(self.name, channel),
            platform_message_id=_required(payload, "trigger_id"),
            text=f"/{from_mrkdwn(text, self.us.user_id).strip() or 'help'}" if own else f"{command} {text}".strip(),
            sender_id=_required(payload, "user_id"),
            sender_name=_name(payload.get("user_name")),
            is_mention=True,
            is_group=not channel.startswith("D"),
            chat_name=_name(payload.get("channel_name")),
        )

    def _message(self, event: Mapping[str, Any]) -> Incoming | None:
        match event.get("subtype"):
            case "message_changed":
                return self._changed(event)
            case "message_deleted":
                return self._deleted(event)
            case str() | None as subtype if subtype in _OF_PEOPLE:
                return self._said(event)
        return None

    def _said(self, event: Mapping[str, Any]) -> Event | None:
        if event.get("bot_id") or event.get("bot_profile") or event.get("user") in (None, self.us.user_id, "USLACKBOT"):
            return None
        text = _text(event, "text") or ""
        channel = _required(event, "channel")
        # A direct chat with several people is a group for us: they are not all spoken to.
        is_direct = event.get("channel_type") == "im" or (not event.get("channel_type") and channel.startswith("D"))
        return Event(
            address=Address(self.name, channel, self._thread(event, channel)),
            platform_message_id=_required(event, "ts"),
            text=from_mrkdwn(text, self.us.user_id),
            sender_id=_required(event, "user"),
            is_mention=(
                event.get("type") == "app_mention"
                or mentions(text, self.us.user_id)
                or event.get("parent_user_id") == self.us.user_id
            ),
            quote=_shared(event),
            is_group=not is_direct,
            remote_files=_files(event),
        )

    def _changed(self, event: Mapping[str, Any]) -> Incoming | None:
        message, before = _table(event.get("message")), _table(event.get("previous_message"))
        channel = _required(event, "channel")
        address = Address(self.name, channel, self._thread(message, channel))
        if message.get("subtype") == "tombstone":  # deleted, while its thread stays
            return Deleted(address, _required(message, "ts"))
        if message.get("bot_id") or message.get("user") in (None, self.us.user_id):
            return None
        text = _text(message, "text") or ""
        if text == before.get("text"):  # Slack adds previews of links in this way
            return None
        return Edited(address, _required(message, "ts"), from_mrkdwn(text, self.us.user_id), _text(message, "user"))

    def _deleted(self, event: Mapping[str, Any]) -> Incoming | None:
        before = _table(event.get("previous_message"))
        if before.get("bot_id") or before.get("user") == self.us.user_id:
            return None
        channel, ts = _required(event, "channel"), _required(event, "deleted_ts")
        return Deleted(Address(self.name, channel, self._thread({"ts": ts, **before}, channel)), ts)

    def _reaction(self, event: Mapping[str, Any]) -> Incoming | None:
        item = _table(event.get("item"))
        if item.get("type") != "message" or event.get("user") == self.us.user_id:
            return None
        added = event.get("type") == "reaction_added"
        emoji = to_character(_required(event, "reaction")[:100])
        return Reacted(
            Address(self.name, _required(item, "channel")),
            _required(item, "ts"),
            emoji if added else None,
            _required(event, "user"),
            removed=None if added else emoji,
        )

    def _address(self, event: Mapping[str, Any]) -> Address:
        channel = event.get("channel")
        return Address(self.name, _required(channel if isinstance(channel, Mapping) else {"id": channel}, "id"))

    def _thread(self, message: Mapping[str, Any], channel: str, *, is_ours: bool = False) -> str | None:
        """The thread of a message. One in a channel that stands in none begins its own, where answers go into threads.

        A direct chat is one conversation, unless a person begins threads in it.
        """
        thread = _text(message, "thread_ts")
        if thread is None and self.reply_in_thread and not is_ours and not channel.startswith("D"):
            return _text(message, "ts")
        return thread


def _files(event: Mapping[str, Any]) -> tuple[RemoteFile, ...]:
    files = event.get("files")
    found = []
    for file in files[:_MAX_FILES] if isinstance(files, list) else ():
        table = _table(file)
        reference = _text(table, "id")
        if reference is None or table.get("mode") in ("tombstone", "hidden_by_limit"):
            continue
        size = table.get("size")
        name = _text(table, "name") or _text(table, "title") or reference
        found.append(
            RemoteFile(name, reference, size if isinstance(size, int) and not isinstance(size, bool) else None)
        )
    return tuple(found)


def _shared(event: Mapping[str, Any]) -> str | None:
    """The text of a message that was forwarded with this one."""
    attachments = event.get("attachments")
    texts = [
        text
        for table in (map(_table, attachments[:10]) if isinstance(attachments, list) else ())
        if (table.get("is_share") or table.get("is_msg_unfurl"))
        and (text := _text(table, "text") or _text(table, "fallback")) is not None
    ]
    return from_mrkdwn("\n".join(texts), "") if texts else None


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    return value if isinstance(value, str) and value else None


def _name(value: object) -> str | None:
    return value[:_MAX_NAME] if isinstance(value, str) and value else None


def _required(table: Mapping[str, Any], key: str) -> str:
    value = _text(table, key)
    if value is None:
        raise InvalidValue(f"an event of Slack has no usable '{key}'")
    return value
