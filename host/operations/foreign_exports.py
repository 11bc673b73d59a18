"""Exports of other systems as sessions: `conversations.json` of ChatGPT and of Claude, as it is, or in its zip file.

ChatGPT  a list of `{"title", "create_time", "current_node", "mapping": {id: {"message", "parent", "children"}}}`: a
         tree, of which the branch that was shown last is taken
Claude   a list of `{"uuid", "name", "created_at", "chat_messages": [{"sender", "text", "content", "created_at"}]}`

What people wrote and what was answered is taken, with the names of files. Tools, pictures and other branches are not.
A conversation has the same session id however often it is imported.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from shared_schema.clock import to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue
from shared_schema.rows import encode
from shared_schema.text import without_lone_surrogates

_CHUNK = 1_000_000
_LONGEST = 64_000_000
"""Characters of one conversation, and bytes that are looked at to know a file."""
_MOST_MESSAGES = 100_000
_IN_ZIP = re.compile(r"conversations(-\d{1,6})?\.json")
_EARLIEST, _LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ForeignMessage:
    """One message: who (`user` or `assistant`), what, and when (a stored time; empty when it is not known)."""

    role: str
    text: str
    time: str


@dataclass(frozen=True, slots=True)
class ForeignConversation:
    """One conversation of another system, oldest message first. `key` tells it from all others."""

    key: str
    title: str | None
    created_at: str
    last_active: str
    messages: tuple[ForeignMessage, ...]


@contextmanager
def opened(path: Path) -> Iterator[list[TextIO]]:
    """Yields the texts in a file, without byte order marks: one, or several of a zip file. Raises `InvalidValue`."""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                beginning = file.read(2)
            encoding = "utf-16" if beginning in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
            with path.open(encoding=encoding) as text:
                yield [text]
            return
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if _IN_ZIP.fullmatch(name.rpartition("/")[2]))
            if not names:
                raise InvalidValue(
                    "there is no conversations.json in this zip file",
                    where=path,
                    hint="take the file that ChatGPT or Claude sent you",
                )
            yield [io.TextIOWrapper(archive.open(name), "utf-8-sig") for name in names]
    except (OSError, UnicodeError) as error:
        raise InvalidValue(
            "the file cannot be read as text", where=path, hint="take conversations.json, or the zip file that has it"
        ) from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # RuntimeError: it has a password
        raise InvalidValue(
            f"the zip file cannot be read: {str(error)[:200]}",
            where=path,
            hint="unpack it, and take conversations.json",
        ) from error


def is_foreign(file: TextIO) -> bool:
    """Whether a text is JSON, and no lines of this program's own. It is read from its beginning afterwards."""
    line = file.readline(_LONGEST)
    while line and not line.strip():
        line = file.readline(_LONGEST)
    file.seek(0)
    beginning = line.strip()
    if beginning.startswith("["):
        return True
    if not beginning.startswith("{"):
        return False
    try:
        value = json.loads(beginning)
    except (ValueError, RecursionError):
        return re.match(r'\{\s*("|$)', beginning) is not None and '"type"' not in beginning[:1_000]
    return isinstance(value, dict) and value.get("type") not in ("session", "entry")


def conversations(file: TextIO) -> Iterator[ForeignConversation]:
    """The conversations in an export of another system. Raises `InvalidValue` for any other JSON."""
    for number, value in enumerate(_values(file), 1):
        try:
            found = _conversation(value)
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise InvalidValue(f"conversation {number} is not what ChatGPT or Claude export") from error
        if found is None:
            raise InvalidValue(
                "this is JSON, and no export that is known",
                hint="`session import` takes what `session export` writes, and conversations.json of ChatGPT or Claude",
            )
        yield found


def rows_of(found: ForeignConversation) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header and the entries with which such a conversation would stand in an export of this program."""
    header = {
        "type": "session",
        "format": 1,
        "id": f"ses_{_digest(found.key)}",
        "title": found.title,
        "created_at": found.created_at or found.last_active or None,
        "last_active": found.last_active or found.created_at or None,
    }
    entries: list[dict[str, Any]] = []
    asked: str | None = None
    turn = ""
    seqs = {"messages_in": 0, "messages_out": 0}
    for number, said in enumerate(found.messages, 1):
        message_id = f"msg_{_digest(f'{found.key}/{number}')}"
        source = "messages_in" if said.role == "user" else "messages_out"
        if source == "messages_in" or not turn:
            turn = f"trn_{_digest(f'{found.key}/turn/{number}')}"
        seqs[source] += 1
        message = {"seq": seqs[source], "message_id": message_id, "kind": "chat", "time": said.time, "generation": 1}
        content = encode({"text": said.text})
        if source == "messages_in":
            entries.append({"source": source, **message, "trigger": 1, "content": content})
            asked = message_id
        else:
            entries.append({"source": source, **message, "turn_id": turn, "in_reply_to": asked, "content": content})
        # What a model hears of the conversation are its steps.
        step = {"seq": number, "turn_id": turn, "role": said.role, "text": said.text, "time": said.time}
        entries.append({"source": "steps", **step})
    return header, entries


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:16]


def _values(file: TextIO) -> Iterator[Any]:
    """The elements of a JSON list one after the other, or the one object there is: an export may have gigabytes."""
    decoder = json.JSONDecoder()
    text, at, wanted, is_list, is_over = "", 0, _CHUNK, False, False
    began = False
    while True:
        blank = re.compile(r"[\s,]*" if is_list else r"\s*").match(text, at)
        assert blank is not None
        at = blank.end()
        if not began and at < len(text):
            began, is_list = True, text[at] == "["
            at += is_list
            continue
        if is_list and at < len(text) and text[at] == "]":
            return
        if began and at < len(text):
            try:
                value, at = decoder.raw_decode(text, at)
            except RecursionError as error:
                raise InvalidValue("it is JSON that is nested too deeply") from error
            except ValueError as error:
                if is_over or len(text) - at > _LONGEST:
                    raise InvalidValue("it begins as JSON, and cannot be read to its end") from error
            else:
                yield value
                if not is_list:
                    return
                wanted = _CHUNK
                continue
        if is_over:
            if is_list:
                raise InvalidValue("it begins as JSON, and ends in the middle")
            return
        # Twice as much each time: what is not whole yet is read anew from its beginning.
        more = file.read(wanted)
        text, at, is_over, wanted = text[at:] + more, 0, not more, 2 * wanted


def _conversation(value: Any) -> ForeignConversation | None:
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("mapping"), dict):
        return _of_chatgpt(value)
    if isinstance(value.get("chat_messages"), list):
        return _of_claude(value)
    return None


def _of_chatgpt(value: Mapping[str, Any]) -> ForeignConversation:
    mapping = value["mapping"]
    branch: list[Mapping[str, Any]] = []
    at = value.get("current_node")
    if at not in mapping:
        leaves = [name for name, node in mapping.items() if isinstance(node, dict) and not node.get("children")]
        at = leaves[-1] if leaves else None
    while isinstance(at, str) and at in mapping and len(branch) < min(len(mapping), _MOST_MESSAGES):
        branch.append(mapping[at])
        at = mapping[at].get("parent")
    said = [one for node in reversed(branch) if (one := _said_in_chatgpt(node.get("message"))) is not None]
    created, last = _time(value.get("create_time")), _time(value.get("update_time"))
    key = value.get("conversation_id") or value.get("id") or f"{value.get('title')}/{created}"
    return _whole(f"chatgpt/{key}", value.get("title"), created, last, said)


def _said_in_chatgpt(message: Any) -> ForeignMessage | None:
    if not isinstance(message, dict):
        return None
    role, content = message["author"]["role"], message.get("content") or {}
    hidden = (message.get("metadata") or {}).get("is_visually_hidden_from_conversation")
    if role not in ("user", "assistant") or hidden or message.get("recipient", "all") != "all":
        return None
    if content.get("content_type") not in ("text", "multimodal_text"):
        return None
    parts = [part for part in content.get("parts") or () if isinstance(part, str)]
    files = [file.get("name") for file in (message.get("metadata") or {}).get("attachments") or ()]
    return _said(role, "\n".join(parts), files, message.get("create_time"))


def _of_claude(value: Mapping[str, Any]) -> ForeignConversation:
    said = [one for message in value["chat_messages"][:_MOST_MESSAGES] if (one := _said_in_claude(message)) is not None]
    created, last = _time(value.get("created_at")), _time(value.get("updated_at"))
    key = value.get("uuid") or f"{value.get('name')}/{created}"
    return _whole(f"claude/{key}", value.get("name"), created, last, said)


def _said_in_claude(message: Mapping[str, Any]) -> ForeignMessage | None:
    role = {"human": "user", "assistant": "assistant"}.get(message["sender"])
    if role is None:
        return None
    parts = [part["text"] for part in message.get("content") or () if part.get("type") == "text"]
    files = [file.get("file_name") for name in ("files", "attachments") for file in message.get(name) or ()]
    return _said(role, "\n".join(parts) or message.get("text") or "", files, message.get("created_at"))


def _said(role: str, text: str, files: list[Any], time: Any) -> ForeignMessage | None:
    """A message; None when there is nothing in it."""
    named = [f"[file: {name}]" for name in files if isinstance(name, str) and name]
    whole = without_lone_surrogates("\n".join(part for part in (text.strip(), *named) if part))
    return ForeignMessage(role, whole, _time(time)) if whole else None


def _whole(key: str, title: Any, created: str, last: str, said: list[ForeignMessage]) -> ForeignConversation:
    times = [message.time for message in said if message.time]
    return ForeignConversation(
        key=key,
        title=title if isinstance(title, str) and title.strip() else None,
        created_at=created or (times[0] if times else ""),
        last_active=last or (times[-1] if times else ""),
        messages=tuple(said),
    )


def _time(value: Any) -> str:
    """The stored time of seconds since 1970 or of an ISO text; empty for anything else."""
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value[:40])
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value, UTC)
        else:
            return ""
        return to_text(moment) if _EARLIEST < moment < _LATEST else ""
    except (ValueError, OverflowError, OSError):
        return ""
