"""From what a homeserver sends to what the host is told. Pure; takes any JSON.

Everybody in a room, on any server, writes what they like into an event: every field is checked before it is used, and
an event that makes no sense is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from host.routing.event import Deleted, Edited, Event, Incoming, Reacted, RemoteFile
from shared_schema.dataclass import dataclass
from shared_schema.rows import Address
from shared_schema.text import is_all_shown, one_line

MAX_TEXT = 65_536
_LONGEST_ID = 255
_FILES = ("m.image", "m.file", "m.audio", "m.video")
_FALLBACK = re.compile(r"> (?:\* )?<@[^>\n]{1,255}>")


@dataclass(frozen=True, slots=True)
class EventRoom:
    """What is known of the room of an event. `own_ids` are names by which the bot is meant in a text."""

    channel: str
    id: str
    me: str
    my_name: str | None = None
    name: str | None = None
    is_group: bool = True


def incoming(source: Mapping[str, Any], room: EventRoom, sender_name: str | None = None) -> Incoming | None:
    """What an event of a room's timeline is; None: nothing that the host is told."""
    sender, event_id = _id(source.get("sender")), _id(source.get("event_id"))
    content = source.get("content")
    if sender is None or event_id is None or sender == room.me or not isinstance(content, dict):
        return None
    match source.get("type"):
        case "m.room.message":
            return _message(content, room, event_id, sender, sender_name)
        case "m.reaction":
            relation = _dict(content.get("m.relates_to"))
            target, emoji = _id(relation.get("event_id")), relation.get("key")
            if relation.get("rel_type") != "m.annotation" or target is None or not isinstance(emoji, str):
                return None
            return Reacted(Address(room.channel, room.id), target, one_line(emoji, 100) or None, sender, sender_name)
        case "m.room.redaction":
            target = _id(content.get("redacts")) or _id(source.get("redacts"))
            return None if target is None else Deleted(Address(room.channel, room.id), target)
        case _:
            return None


def replied_to(source: Mapping[str, Any]) -> str | None:
    """The id of the event that one answers, as a person meant it."""
    relation = _dict(_dict(source.get("content")).get("m.relates_to"))
    if relation.get("rel_type") == "m.thread" and relation.get("is_falling_back") is True:
        return None
    return _id(_dict(relation.get("m.in_reply_to")).get("event_id"))


def readers(receipts: Iterable[tuple[str, str, object]], me: str) -> set[str | None]:
    """The threads in which others have read something; None stands for the room itself.

    A receipt is its type, the user, and the thread.
    """
    threads = {_id(thread) for kind, user, thread in receipts if kind == "m.read" and user != me}
    return {None if thread in (None, "main") else thread for thread in threads}


def _message(
    content: Mapping[str, Any], room: EventRoom, event_id: str, sender: str, sender_name: str | None
) -> Event | Edited | None:
    kind = content.get("msgtype")
    if kind == "m.notice":  # by convention what machines say, which machines do not answer
        return None
    relation = _dict(content.get("m.relates_to"))
    if relation.get("rel_type") == "m.replace":
        target, new = _id(relation.get("event_id")), _dict(content.get("m.new_content"))
        body = new.get("body")
        if target is None or not isinstance(body, str):
            return None
        return Edited(Address(room.channel, room.id), target, body[:MAX_TEXT], sender)
    body = content.get("body")
    text = body[:MAX_TEXT] if isinstance(body, str) else ""
    thread = _id(relation.get("event_id")) if relation.get("rel_type") == "m.thread" else None
    reply_to = replied_to({"content": content})
    files: tuple[RemoteFile, ...] = ()
    if kind in _FILES:
        file = _file(content, text)
        files = () if file is None else (file,)
        # Of a file the body is its name, or what is said to it where there is a name besides.
        text = text if isinstance(content.get("filename"), str) and content["filename"] != text else ""
    text, quote = _without_fallback(text) if reply_to is not None else (text, None)
    return Event(
        address=Address(room.channel, room.id, thread),
        platform_message_id=event_id,
        text=text,
        sender_id=sender,
        sender_name=None if sender_name is None else one_line(sender_name, 200) or None,
        is_mention=not room.is_group or _is_mention(content, text, room),
        reply_to=reply_to,
        quote=quote,
        is_group=room.is_group,
        chat_name=room.name,
        remote_files=files,
    )


def _is_mention(content: Mapping[str, Any], text: str, room: EventRoom) -> bool:
    mentions = content.get("m.mentions")
    if isinstance(mentions, dict):
        users = mentions.get("user_ids")
        return isinstance(users, list) and room.me in users
    formatted = content.get("formatted_body")
    if room.me in text or (isinstance(formatted, str) and f"matrix.to/#/{room.me}" in formatted[:MAX_TEXT]):
        return True
    return bool(room.my_name) and f"@{room.my_name}" in text


def _file(content: Mapping[str, Any], body: str) -> RemoteFile | None:
    encrypted = content.get("file")
    url = _dict(encrypted).get("url") if encrypted is not None else content.get("url")
    if not isinstance(url, str) or not url.startswith("mxc://") or len(url) > 500 or not is_all_shown(url):
        return None
    size = _dict(content.get("info")).get("size")
    name = content.get("filename") if isinstance(content.get("filename"), str) else body
    reference: dict[str, Any] = {"url": url}
    if isinstance(encrypted, dict):
        key, hashes = _dict(encrypted.get("key")).get("k"), _dict(encrypted.get("hashes")).get("sha256")
        iv = encrypted.get("iv")
        if not all(isinstance(each, str) and len(each) < 200 for each in (key, hashes, iv)):
            return None
        reference |= {"key": key, "sha256": hashes, "iv": iv}
    is_size = isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**53
    return RemoteFile(str(name)[:500] or "file", json.dumps(reference), size if is_size else None)


def _without_fallback(text: str) -> tuple[str, str | None]:
    """A text without the quote that older programs put above a reply, and that quote."""
    if not _FALLBACK.match(text):
        return text, None
    lines = text.split("\n")
    count = next((number for number, line in enumerate(lines) if not line.startswith(">")), len(lines))
    quote = "\n".join(line.removeprefix("> ") for line in lines[:count])
    return "\n".join(lines[count:]).lstrip("\n"), quote[:2_000]


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_ID and is_all_shown(value) else None
