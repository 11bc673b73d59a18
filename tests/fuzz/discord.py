"""What Discord's gateway sends to the channel `discord`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host.channels.discord.directory import Directory
from host.channels.discord.events import DiscordReader
from host.channels.discord.text import MAX_TEXT, from_discord, to_discord
from host.routing.event import ChatMoved, Event
from shared_schema.errors import InvalidValue
from tests.fuzz.target import Drive, Target, of_bytes
from tests.fuzz.values import ANY_TEXT

_EVENTS = (
    "MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE", "MESSAGE_DELETE_BULK", "MESSAGE_REACTION_ADD",
    "MESSAGE_REACTION_REMOVE", "INTERACTION_CREATE", "GUILD_CREATE", "THREAD_CREATE", "THREAD_DELETE", "GUILD_DELETE",
)  # fmt: skip


def _healthy() -> list[bytes]:
    file = {"id": "7", "filename": "../../x\u202e.txt", "size": -1, "url": "https://cdn.discordapp.com/x"}
    said = {
        "id": "9001", "channel_id": "4001", "guild_id": "3001", "content": "<@1001> <a:x:1> hello", "type": 0,
        "author": {"id": "2001", "username": "ann", "global_name": "\u202eAnn"}, "member": {"nick": None},
        "mentions": [{"id": "1001"}], "mention_roles": ["5001"], "attachments": [file] * 200,
    }  # fmt: skip
    bodies: list[dict[str, object]] = [
        said,
        said | {"edited_timestamp": "now", "referenced_message": {"content": "x" * 3_000, "author": {"id": "1001"}}},
        said | {"message_snapshots": [{"message": {"content": "forwarded"}}] * 50, "mentions": [7, None]},
        {"id": "1", "channel_id": "4001", "ids": ["1", 2, None]},
        {"user_id": "2001", "channel_id": "4001", "message_id": "1", "emoji": {"id": "1", "name": "y" * 500}},
        {"id": "1", "type": 3, "channel_id": "4001", "user": {"id": "2001"}, "message": {"id": "1"},
         "data": {"custom_id": "q1/yes"}, "token": "t"},
        {"id": "1", "type": 2, "channel_id": "4001", "member": {"user": {"id": "2001"}},
         "data": {"name": "new", "options": [{"value": "x"}] * 100}},
        {"id": "3001", "channels": [{"id": "4001", "type": 0, "last_message_id": "9" * 30}] * 50,
         "threads": [{"id": "4003", "type": 11, "parent_id": "4001"}], "roles": [{"id": "5001", "tags": {}}]},
        {"id": "4003", "type": 11, "parent_id": "4003", "guild_id": "3001"},
    ]  # fmt: skip
    return [json.dumps(body).encode() for body in bodies] + [b"[]", b'{"channels":' * 3_000, b"\xff\xfe"]


@contextmanager
def _events(folder: Path) -> Iterator[Drive]:
    def drive(body: bytes) -> None:
        try:
            data = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidValue("the SDK has refused it") from error
        if not isinstance(data, dict):
            raise InvalidValue("the client leaves it out")
        directory = Directory("1001")
        reader, refused = DiscordReader("discord", "1001", directory), None
        for event in _EVENTS:
            directory.learn(event, data)
            try:
                found = [*reader.read(event, data), *reader.joined(data)]
            except InvalidValue as error:
                refused = error
                continue
            for each in found:
                assert isinstance(each, ChatMoved) or each.address.channel_type == "discord"
                if isinstance(each, Event):
                    assert len(each.remote_files) <= 100
        if refused is not None:
            raise refused

    yield drive


@contextmanager
def _text(folder: Path) -> Iterator[Drive]:
    def drive(text: str) -> None:
        assert len(to_discord(text)) <= max(MAX_TEXT, len(text))
        from_discord(text, "1001")

    yield drive


DISCORD_TARGETS = (
    of_bytes(
        "discord-events", _events, _healthy, (InvalidValue,), known=(b'{"id": "1", "channel_id": "2", "type": []}',)
    ),
    Target("discord-text", _text, ANY_TEXT, (), known=("|-" * 20_000 + "|", "|" + "-" * 20_000, "> " * 5_000 + "|-|")),
)
