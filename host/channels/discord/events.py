"""What Discord sends, as what a host understands. Pure; every field may be missing, wrong, huge or hostile.

A thread is a channel of its own there: its messages have the channel above as their chat and the thread as theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.channels.discord.directory import Directory, table, tables, text
from host.channels.discord.text import from_discord
from host.routing.event import ChatGone, Clicked, Deleted, Edited, Event, Incoming, Joined, Reacted, RemoteFile
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue
from shared_schema.rows import Address

_OF_PEOPLE = (0, 19)  # a message, a reply. No set: a list in place of a number cannot be looked for in one
_COMMAND, _COMPONENT = 2, 3  # kinds of interactions
_GROUP_DIRECT = 3
_MAX_FILES = 100
_MAX_NAME = 300
_MAX_GONE = 500


@dataclass(frozen=True, slots=True)
class DiscordReader:
    """Reads events for the channel called `name`; `directory` knows which thread belongs to which channel."""

    name: str
    own_id: str
    directory: Directory

    def read(self, event: str, data: Mapping[str, Any]) -> list[Incoming]:
        """What an event of the gateway comes to; nothing for what means nothing to us. Raises `InvalidValue`."""
        match event:
            case "MESSAGE_CREATE":
                return self._some(self.message(data))
            case "MESSAGE_UPDATE":
                return self._some(self._edited(data))
            case "MESSAGE_DELETE":
                return [Deleted(self._address(data), _required(data, "id"))]
            case "MESSAGE_DELETE_BULK":
                ids = data.get("ids")
                address = self._address(data)
                return (
                    [Deleted(address, each) for each in ids if isinstance(each, str)] if isinstance(ids, list) else []
                )
            case "MESSAGE_REACTION_ADD" | "MESSAGE_REACTION_REMOVE":
                return self._some(self._reaction(data, added=event.endswith("ADD")))
            case "INTERACTION_CREATE":
                return self._some(self._interaction(data))
            case "CHANNEL_DELETE" | "THREAD_DELETE" if text(data, "id") is not None:
                what = "the channel" if event == "CHANNEL_DELETE" else "the thread"
                return [ChatGone(self._place(_required(data, "id"), data), f"{what} is deleted")]
            case "GUILD_DELETE" if not data.get("unavailable"):
                places = [each for each in self.directory.entries(text(data, "id")) if each.parent_id is None]
                reason = "the bot was removed from the server"
                return [ChatGone(Address(self.name, each.id), reason) for each in places[:_MAX_GONE]]
        return []

    def joined(self, data: Mapping[str, Any]) -> list[Incoming]:
        """The bot was added to a server: it is told of the channel where the server itself speaks, or of its first."""
        channels = [each for each in tables(data.get("channels")) if each.get("type") == 0]
        chosen = text(data, "system_channel_id") or (text(channels[0], "id") if channels else None)
        if chosen is None:
            return []
        return [Joined(Address(self.name, chosen), _name(data.get("name")))]

    def message(self, data: Mapping[str, Any]) -> Event | None:
        """A message of a person's. Raises `InvalidValue`."""
        author = table(data.get("author"))
        if author.get("bot") or data.get("webhook_id") or data.get("type", 0) not in _OF_PEOPLE:
            return None
        said, address = text(data, "content") or "", self._address(data)
        replied = table(data.get("referenced_message"))
        reference = text(table(data.get("message_reference")), "message_id")
        forwarded = [table(each.get("message")) for each in tables(data.get("message_snapshots"))[:10]]
        quote = text(replied, "content") or "\n".join(text(each, "content") or "" for each in forwarded) or None
        place = self.directory.entry(address.platform_id)
        is_direct = text(data, "guild_id") is None and (place is None or place.guild_id is None)
        return Event(
            address=address,
            platform_message_id=_required(data, "id"),
            text=from_discord(said, self.own_id),
            sender_id=_required(author, "id"),
            sender_name=_person(author, table(data.get("member"))),
            is_mention=self._is_meant(data, replied),
            reply_to=reference,
            quote=quote,
            is_group=not is_direct or data.get("channel_type") == _GROUP_DIRECT,
            chat_name=None if place is None or place.name is None else f"#{place.name}"[:_MAX_NAME],
            remote_files=_files(data),
        )

    def _edited(self, data: Mapping[str, Any]) -> Edited | None:
        author = table(data.get("author"))
        # Discord sends the same event when it adds the preview of a link; then the text is what it was.
        if author.get("bot") or text(data, "edited_timestamp") is None or not isinstance(data.get("content"), str):
            return None
        said = from_discord(str(data["content"]), self.own_id)
        return Edited(self._address(data), _required(data, "id"), said, text(author, "id"))

    def _reaction(self, data: Mapping[str, Any], *, added: bool) -> Reacted | None:
        user_id = _required(data, "user_id")
        if user_id == self.own_id:
            return None
        emoji = table(data.get("emoji"))
        name = _required(emoji, "name")[:100]
        character = f":{name}:" if emoji.get("id") else name
        member = table(data.get("member"))
        sender = _person(table(member.get("user")), member)
        address, message_id = self._address(data), _required(data, "message_id")
        removed = None if added else character
        return Reacted(address, message_id, character if added else None, user_id, sender, removed)

    def _interaction(self, data: Mapping[str, Any]) -> Incoming | None:
        member = table(data.get("member"))
        person = table(member.get("user")) or table(data.get("user"))
        given, address = table(data.get("data")), self._address(data)
        interaction_id, person_id = _required(data, "id"), _required(person, "id")
        if data.get("type") == _COMPONENT:
            return Clicked(
                address=address,
                platform_message_id=_required(table(data.get("message")), "id"),
                value=_required(given, "custom_id"),
                click_id=interaction_id,
                sender_id=person_id,
                sender_name=_person(person, member),
            )
        if data.get("type") != _COMMAND:
            return None
        values = [text(each, "value") or "" for each in tables(given.get("options"))[:5]]
        return Event(
            address=address,
            platform_message_id=interaction_id,
            text=f"/{_required(given, 'name')} {' '.join(values)}".strip(),
            sender_id=person_id,
            sender_name=_person(person, member),
            is_mention=True,
            is_group=text(data, "guild_id") is not None,
        )

    def _is_meant(self, data: Mapping[str, Any], replied: Mapping[str, Any]) -> bool:
        if any(each.get("id") == self.own_id for each in tables(data.get("mentions"))):
            return True
        if table(replied.get("author")).get("id") == self.own_id:
            return True
        roles = data.get("mention_roles")
        return isinstance(roles, list) and any(isinstance(each, str) and each in self.directory.roles for each in roles)

    def _address(self, data: Mapping[str, Any]) -> Address:
        return self._place(_required(data, "channel_id"), table(data.get("channel")))

    def _place(self, channel_id: str, said: Mapping[str, Any]) -> Address:
        """Where that is; `said` is the channel itself, as far as the event has it."""
        place = self.directory.entry(channel_id)
        parent = place.parent_id if place is not None else None
        if parent is None and said.get("type") in (10, 11, 12):
            parent = text(said, "parent_id")
        return Address(self.name, channel_id) if parent is None else Address(self.name, parent, channel_id)

    @staticmethod
    def _some(incoming: Incoming | None) -> list[Incoming]:
        return [] if incoming is None else [incoming]


def reference_of(channel_id: str, message_id: str, file_id: str) -> str:
    """How a file is found again: its address at Discord is good for a day only."""
    return f"{channel_id}/{message_id}/{file_id}"


def _files(data: Mapping[str, Any]) -> tuple[RemoteFile, ...]:
    found = []
    for file in tables(data.get("attachments"))[:_MAX_FILES]:
        file_id, size = text(file, "id"), file.get("size")
        if file_id is None or "/" in file_id:
            continue
        name = text(file, "filename") or text(file, "title") or file_id
        known = size if isinstance(size, int) and not isinstance(size, bool) else None
        reference = reference_of(_required(data, "channel_id"), _required(data, "id"), file_id)
        found.append(RemoteFile(name, reference, known))
    return tuple(found)


def _person(user: Mapping[str, Any], member: Mapping[str, Any]) -> str | None:
    return _name(text(member, "nick") or text(user, "global_name") or text(user, "username"))


def _name(value: object) -> str | None:
    return value[:_MAX_NAME] if isinstance(value, str) and value else None


def _required(data: Mapping[str, Any], key: str) -> str:
    value = text(data, key)
    if value is None:
        raise InvalidValue(f"an event of Discord has no usable '{key}'")
    return value
