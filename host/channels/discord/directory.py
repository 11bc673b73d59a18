"""The chats that a bot is in, as the gateway tells of them: which is a thread of which, what came last. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from shared_schema.dataclass import dataclass

_THREADS = (10, 11, 12)  # no sets: anything may stand in place of a number, and a list cannot be looked for in one
_WRITABLE = (0, 2, 5, 13, *_THREADS)
"""The types of channels in which messages are: text, voice, announcements, stages, threads."""

_MAX_CHANNELS = 50_000


@dataclass(slots=True)
class DirectoryEntry:
    """A channel, or a thread (`parent_id`)."""

    id: str
    guild_id: str | None = None
    parent_id: str | None = None
    name: str | None = None
    last_message_id: int = 0


@dataclass(slots=True)
class Directory:
    """What is known of servers ("guilds") and their channels; `roles` are those that the bot has of itself."""

    own_id: str = ""
    guilds: set[str] = field(default_factory=set)
    roles: set[str] = field(default_factory=set)
    _entries: dict[str, DirectoryEntry] = field(default_factory=dict)

    def learn(self, event: str, data: Mapping[str, Any]) -> None:
        """Take over what an event tells of channels. What cannot be read is left out."""
        match event:
            case "GUILD_CREATE" if (guild_id := text(data, "id")) is not None:
                self.guilds.add(guild_id)
                for key in ("channels", "threads"):
                    for channel in tables(data.get(key)):
                        self._add(channel, guild_id)
                for role in tables(data.get("roles")):
                    tags = role.get("tags")
                    if isinstance(tags, Mapping) and tags.get("bot_id") == self.own_id:
                        self.roles.add(str(role.get("id")))
            case "GUILD_DELETE" if (guild_id := text(data, "id")) is not None and not data.get("unavailable"):
                self.guilds.discard(guild_id)
                for entry in [each for each in self._entries.values() if each.guild_id == guild_id]:
                    del self._entries[entry.id]
            case "CHANNEL_CREATE" | "CHANNEL_UPDATE" | "THREAD_CREATE" | "THREAD_UPDATE":
                self._add(data, text(data, "guild_id"))
            case "CHANNEL_DELETE" | "THREAD_DELETE":
                self._entries.pop(str(data.get("id")), None)

    def entry(self, channel_id: str) -> DirectoryEntry | None:
        """What is known of a channel."""
        return self._entries.get(channel_id)

    def entries(self, guild_id: str | None = None) -> Iterator[DirectoryEntry]:
        """All channels that are known, or those of one server."""
        for entry in self._entries.values():
            if guild_id is None or entry.guild_id == guild_id:
                yield entry

    def _add(self, data: Mapping[str, Any], guild_id: str | None) -> None:
        channel_id, kind = text(data, "id"), data.get("type")
        if channel_id is None or kind not in _WRITABLE or len(self._entries) >= _MAX_CHANNELS:
            return
        parent = text(data, "parent_id") if kind in _THREADS else None
        last = snowflake(data.get("last_message_id"))
        self._entries[channel_id] = DirectoryEntry(channel_id, guild_id, parent, text(data, "name"), last)


def snowflake(value: object) -> int:
    """An id as a number that grows with time; 0 for what is none."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 25 else 0


def text(table: Mapping[str, Any], key: str) -> str | None:
    """A text that is not empty."""
    value = table.get(key)
    return value if isinstance(value, str) and value else None


def tables(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def table(value: object) -> Mapping[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, Mapping) else {}
