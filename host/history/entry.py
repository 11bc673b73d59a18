"""Rows of the two session files as entries of history. Pure: an agent's row is taken as it is, or not at all."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from host.history.cjk import INDEXED_CHARACTERS, has_runs, spaced
from shared_schema import json_text
from shared_schema.errors import FileDamaged, InvalidValue
from shared_schema.rows import decode
from shared_schema.text import without_lone_surrogates

_TIME = re.compile(r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:\d\d\.\d{3}Z", re.ASCII)
_MAX_DEPTH = 20
_MOST_PARTS = 10_000


class Entry(NamedTuple):
    """The columns of `entries` but its position. A tuple, because a million of them are made in a rebuild."""

    session_id: str
    source: str  # messages_in, messages_out or steps: at one place the order is theirs by alphabet
    seq: int
    place: int | None
    role: str
    kind: str | None
    message_id: str | None
    turn_id: str | None
    in_reply_to: str | None
    generation: int | None
    trigger: int | None
    sender_id: str | None
    sender_name: str | None
    channel_type: str | None
    platform_id: str | None
    thread_id: str | None
    destination: str | None
    time: str | None
    text: str | None
    content: str | None
    tool_name: str | None
    tool_call_id: str | None
    tool_calls: str | None
    reasoning: str | None
    usage: str | None
    spoken: str | None
    called: str | None


COLUMNS = Entry._fields


def of_message_in(session_id: str, row: sqlite3.Row) -> Entry | None:
    """The entry of a row of `messages_in`; None when its content is no object."""
    content = _content(row)
    if content is None:
        return None
    return Entry(
        session_id=session_id,
        source="messages_in",
        seq=row["seq"],
        place=row["seq"],
        role="user",
        kind=row["kind"],
        message_id=row["id"],
        turn_id=None,
        in_reply_to=None,
        generation=row["generation"],
        trigger=row["trigger"],
        sender_id=row["sender_id"],
        sender_name=row["sender_name"],
        channel_type=row["channel_type"],
        platform_id=row["platform_id"],
        thread_id=row["thread_id"],
        destination=None,
        time=_time(row["timestamp"]),
        text=content[1],
        content=content[0],
        tool_name=None,
        tool_call_id=None,
        tool_calls=None,
        reasoning=None,
        usage=None,
        spoken=_spoken(content[1]),
        called=None,
    )


def of_message_out(session_id: str, row: sqlite3.Row, place: int, answered: sqlite3.Row | None) -> Entry | None:
    """The entry of a row of `messages_out`, which an agent may have filled with anything; None when it is no message.

    One without an address or destination goes where the message that it answers came from.
    """
    content, message_id = _content(row), _text(row["id"])
    if content is None or message_id is None:
        return None
    goes_elsewhere = row["destination"] is not None or row["platform_id"] is not None
    address = row if goes_elsewhere or answered is None else answered
    return Entry(
        session_id=session_id,
        source="messages_out",
        seq=row["seq"],
        place=place,
        role="assistant",
        kind=_text(row["kind"]),
        message_id=message_id,
        turn_id=_text(row["turn_id"]),
        in_reply_to=_text(row["in_reply_to"]),
        generation=row["generation"] if isinstance(row["generation"], int) else None,
        trigger=None,
        sender_id=None,
        sender_name=None,
        channel_type=_text(address["channel_type"]),
        platform_id=_text(address["platform_id"]),
        thread_id=_text(address["thread_id"]),
        destination=_text(row["destination"]),
        time=_time(row["timestamp"]),
        text=content[1],
        content=content[0],
        tool_name=None,
        tool_call_id=None,
        tool_calls=None,
        reasoning=None,
        usage=None,
        spoken=_spoken(content[1]),
        called=None,
    )


def of_step(session_id: str, row: sqlite3.Row) -> Entry | None:
    """The entry of a row of `steps`; None for one without a role."""
    values = {name: _text(row[name]) for name in _OF_STEP}
    role, raw = values["role"], values["content"]
    if role is None:
        return None
    text = text_of_parts(raw) if raw is not None else None
    calls, tool = values["tool_calls"], values["tool_name"]
    called = " ".join(part for part in (tool, _arguments(calls)) if part) or None
    return Entry(
        session_id=session_id,
        source="steps",
        seq=row["seq"],
        place=None,
        role=role,
        kind=None,
        message_id=None,
        turn_id=values["turn_id"],
        in_reply_to=None,
        generation=None,
        trigger=None,
        sender_id=None,
        sender_name=None,
        channel_type=None,
        platform_id=None,
        thread_id=None,
        destination=None,
        time=_time(row["timestamp"]),
        text=text,
        content=None if text == raw else raw,
        tool_name=tool,
        tool_call_id=values["tool_call_id"],
        tool_calls=calls,
        reasoning=values["reasoning"],
        usage=values["usage"],
        spoken=_spoken(text),
        called=None if called is None else looked_up(called),
    )


_OF_STEP = ("turn_id", "role", "content", "tool_name", "tool_call_id", "tool_calls", "reasoning", "usage")


def _content(row: sqlite3.Row) -> tuple[str, str] | None:
    """A message's JSON and its text; None when it is no object."""
    content = row["content"]
    if not isinstance(content, str):
        return None
    try:
        value = decode(content)
    except FileDamaged:
        return None
    return content, _plain(value.get("text"))


def text_of_content(content: Any) -> str:
    """The text of a message's JSON. Raises `InvalidValue` for one that is no object."""
    try:
        return _plain(decode(content).get("text"))
    except FileDamaged as error:
        raise InvalidValue("its content is no JSON object") from error


def text_of_parts(raw: str) -> str:
    """The text of a step: as it is, or what the parts say where it is a JSON list of parts."""
    if not raw.startswith("[") or raw.count("{") > _MOST_PARTS:  # to be opened, it would have a hundred times its size
        return raw
    try:
        value = json_text.parse(raw)
    except ValueError:
        return raw
    return _plain(value) if isinstance(value, list) and all(isinstance(part, dict) for part in value) else raw


def _plain(value: Any) -> str:
    """A text, or the texts of a list of parts on lines of their own. Half characters become question marks."""
    if isinstance(value, list):
        value = "\n".join(
            part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    if not isinstance(value, str):
        return ""
    return without_lone_surrogates(value)


def _arguments(calls: str | None) -> str:
    """All names and values in the JSON of tool calls, one after the other; JSON within its strings is opened, too."""
    if calls is None:
        return ""
    found = " ".join(_leaves(calls, 0))
    return without_lone_surrogates(found)


def _leaves(value: Any, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, str):
        if value.startswith(("{", "[")):
            try:
                opened = json_text.parse(value)
            except ValueError:
                yield value
            else:
                yield from _leaves(opened, depth + 1)
        else:
            yield value
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield name
            yield from _leaves(entry, depth + 1)
    elif isinstance(value, list):
        for entry in value:
            yield from _leaves(entry, depth + 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield repr(value)[:40] if isinstance(value, float) or abs(value) < 10**18 else ""


def _spoken(text: str | None) -> str | None:
    """What words are looked up in, where that is not the text itself."""
    if text is None or (len(text) <= INDEXED_CHARACTERS and not has_runs(text)):
        return None
    return looked_up(text)


def looked_up(text: str) -> str:
    cut = text[:INDEXED_CHARACTERS]
    return spaced(cut) if has_runs(cut) else cut


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _time(value: Any) -> str | None:
    return value if isinstance(value, str) and _TIME.fullmatch(value) is not None else None
