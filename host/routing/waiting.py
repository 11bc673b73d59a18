"""Events that wait for a decision, as JSON in the approval, and back.

A stranger fills no disk of ours: of a file that still lies on its platform only the way to it is kept, and it is
fetched once its sender was let in. Files that came along with the event (as those of a mail) are kept in the spool, as
long as they are few and small. What was left out is said to the agent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from host.routing.event import Event, RemoteFile
from host.routing.text import truncate
from host.sessions.attachments import Attachment
from shared_schema.rows import Address
from shared_schema.text import one_line, without_lone_surrogates

_LONGEST_NAME = 200
LONGEST = 8_000
"""Characters of a text that waits."""

MOST_BYTES = 25 * 1024**2
"""Of files that one event has brought along, while it waits."""
MOST_BYTES_IN_ALL = 200 * 1024**2
_MOST_FILES = 20
_LONGEST_REFERENCE = 2_000

_FILES = "\n[files came with this message and were not kept while it waited: {names}]"


def to_json(event: Event, spool: str | None = None, names: Sequence[str] = (), size: int = 0) -> dict[str, Any]:
    """What is kept of an event. Its files `names` of `size` bytes lie in the folder `spool`, if they are kept."""
    text = truncate(event.text, LONGEST)
    remote = [each for each in event.remote_files if _is_short(each)][:_MOST_FILES]
    left_out = [each.name for each in event.remote_files if each not in remote]
    left_out += [] if spool is not None else [*names] or [each.name for each in event.attachments]
    if left_out:
        # Names come as platforms send them; the text was looked at when it came in.
        text += _FILES.format(names=", ".join(one_line(name, 80) for name in left_out[:10]))
    return {
        "channel_type": event.address.channel_type,
        "platform_id": event.address.platform_id,
        "thread_id": event.address.thread_id,
        "platform_message_id": event.platform_message_id,
        "text": text,
        "sender_id": event.sender_id,
        "sender_name": _stored(event.sender_name),
        "is_mention": event.is_mention,
        "is_group": event.is_group,
        "chat_name": _stored(event.chat_name),
        "reply_to": event.reply_to,
        "quote": event.quote,
        "remote_files": [[_stored(each.name), each.reference, each.size] for each in remote],
        "spool": spool,
        "files": [] if spool is None else list(names),
        "bytes": 0 if spool is None else size,
    }


def _is_short(file: RemoteFile) -> bool:
    return len(file.reference) <= _LONGEST_REFERENCE and file.reference.isascii()


def _stored(name: str | None) -> str | None:
    return None if name is None else without_lone_surrogates(name)[:_LONGEST_NAME]


def from_json(kept: Mapping[str, Any], spool: Path) -> Event:
    """The event again. `spool` is the folder of all spool folders."""
    folder = None if kept.get("spool") is None else spool / str(kept["spool"])
    files = [] if folder is None else [Attachment(name, folder / name) for name in kept["files"]]
    text, gone = kept["text"], [file.name for file in files if not file.source.is_file()]
    if gone:
        text += _FILES.format(names=", ".join(gone[:10]))
    return Event(
        address=Address(kept["channel_type"], kept["platform_id"], kept["thread_id"]),
        platform_message_id=kept["platform_message_id"],
        text=text,
        sender_id=kept["sender_id"],
        sender_name=kept["sender_name"],
        is_mention=kept["is_mention"],
        is_group=kept["is_group"],
        chat_name=kept["chat_name"],
        reply_to=kept["reply_to"],
        quote=kept["quote"],
        remote_files=tuple(RemoteFile(name, reference, size) for name, reference, size in kept.get("remote_files", ())),
        attachments=tuple(file for file in files if file.name not in gone),
    )
