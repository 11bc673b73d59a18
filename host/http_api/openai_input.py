"""What a call of OpenAI's API says to an agent: a text and files. Pure.

Such a call carries a whole conversation, because its model remembers nothing; an agent does. In a conversation that is
under way it is told what is new: all behind the last answer. One that begins with a past is told that past as a text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import mimetypes
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from host.http_api.errors import CallRefused, Refusal
from shared_schema.dataclass import dataclass

_SYSTEM = ("system", "developer")
_ROLES = {"user": "User", "assistant": "Assistant", "tool": "Tool", "function": "Tool"}
_MOST_MESSAGES = 5000
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64,(?P<data>.*)", re.DOTALL)
_LONGEST_NAME = 100
_LONGEST_THREAD = 90
_INLINE = "the host fetches nothing for a program: send the content itself, as a `data:` URL with base64"


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A file that stands in a call."""

    name: str
    data: bytes


@dataclass(slots=True)
class CallMessage:
    """One message of a call."""

    role: str
    text: str
    files: list[InlineFile] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ForAgent:
    """What the agent gets."""

    text: str
    files: tuple[InlineFile, ...]


def text_of(body: Mapping[str, Any], name: str, *, longest: int = 200) -> str | None:
    """A text of a call; None when it is not there. Raises `CallRefused` for anything else."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > longest:
        raise refused(f"`{name}` must be a text of {longest} characters at most", name)
    return value


def conversation_of(body: Mapping[str, Any]) -> str | None:
    """The `conversation` that a response is to be part of: a text, or an object with its `id`."""
    value = body.get("conversation")
    return text_of(value if isinstance(value, dict) else {"id": value}, "id", longest=10_000)


def flag_of(body: Mapping[str, Any], name: str) -> bool:
    """A yes or no of a call. Raises `CallRefused` for anything else."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise refused(f"`{name}` must be true or false", name)
    return bool(value)


def require_possible(body: Mapping[str, Any]) -> None:
    """Refuse what an agent cannot do, rather than leave it undone. What only shapes the sampling is the agent's own.

    Raises `CallRefused`.
    """
    if body.get("tools") or body.get("functions"):
        hint = "the agent has its own; leave `tools` out, or give them to the agent as an MCP server"
        raise refused("an agent does not take the tools of a call", "tools", hint)
    if body.get("n") not in (None, 1):
        raise refused("an agent gives one answer", "n", "leave `n` out")
    for name, place in (("response_format", body.get("response_format")), ("text", _format(body))):
        kind = place.get("type") if isinstance(place, dict) else None
        if kind not in (None, "text"):
            hint = "ask for JSON in the message itself"
            raise refused("an agent is not bound to a schema by a call", name, hint)
    modalities = body.get("modalities")
    if modalities not in (None, ["text"]):
        raise refused("an agent answers with text", "modalities")


def _format(body: Mapping[str, Any]) -> Any:
    text = body.get("text")
    return text.get("format") if isinstance(text, dict) else None


def chat_messages(body: Mapping[str, Any]) -> list[CallMessage]:
    """The `messages` of a chat completion. Raises `CallRefused`."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not 0 < len(messages) <= _MOST_MESSAGES:
        raise refused(f"`messages` must be a list of 1 to {_MOST_MESSAGES} messages", "messages")
    return [_chat_message(each, f"messages[{number}]") for number, each in enumerate(messages)]


def response_messages(body: Mapping[str, Any]) -> list[CallMessage]:
    """The `instructions` and `input` of a response. Raises `CallRefused`."""
    instructions = text_of(body, "instructions", longest=1_000_000)
    said = [] if not instructions else [CallMessage("developer", instructions)]
    given = body.get("input")
    if isinstance(given, str):
        return [*said, CallMessage("user", given)]
    if not isinstance(given, list) or not 0 < len(given) <= _MOST_MESSAGES:
        raise refused(f"`input` must be a text, or a list of 1 to {_MOST_MESSAGES} items", "input")
    for number, item in enumerate(given):
        where = f"input[{number}]"
        if not isinstance(item, dict):
            raise refused(f"`{where}` must be an object", "input")
        if item.get("type", "message") == "message":
            said.append(_chat_message(item, where))
        elif item.get("type") == "reasoning":
            continue
        else:
            raise refused(f"`{where}` has a type that an agent does not take", "input")
    return said


def for_agent(messages: Sequence[CallMessage], *, is_new: bool) -> ForAgent:
    """What the agent is told. `is_new`: its conversation begins with it. Raises `CallRefused`."""
    last = max((number for number, each in enumerate(messages) if each.role == "assistant"), default=-1)
    present = [each for each in messages[last + 1 :] if each.role not in _SYSTEM]
    if not any(each.role == "user" for each in present):
        raise refused("there is nothing new from the user", "messages", "end with a message whose role is `user`")
    parts: list[str] = []
    if is_new:
        wishes = [each.text for each in messages if each.role in _SYSTEM and each.text]
        if wishes:
            parts.append("The program that passes this on says:\n" + "\n\n".join(wishes))
        past = [each for each in messages[: last + 1] if each.role not in _SYSTEM]
        if past:
            told = [f"{_ROLES[each.role]}: {_with_names(each)}" for each in past]
            parts.append("What was said before:\n" + "\n\n".join(told) + "\n\nWhat is said now:")
    parts += [each.text if each.role == "user" else f"{_ROLES[each.role]}: {each.text}" for each in present]
    files = tuple(file for each in present for file in each.files)
    return ForAgent("\n\n".join(part for part in parts if part), files)


def _with_names(said: CallMessage) -> str:
    names = [f"[{file.name}]" for file in said.files]
    return " ".join(filter(None, (said.text, *names)))


def _chat_message(message: Any, where: str) -> CallMessage:
    if not isinstance(message, dict):
        raise refused(f"`{where}` must be an object", "messages")
    role = message.get("role")
    if not isinstance(role, str) or role not in (*_SYSTEM, *_ROLES):
        raise refused(f"`{where}.role` must be one of {', '.join((*_SYSTEM, *_ROLES))}", "messages")
    content = message.get("content")
    if content is None:
        return CallMessage(role, "")
    if isinstance(content, str):
        return CallMessage(role, content)
    if not isinstance(content, list):
        raise refused(f"`{where}.content` must be a text or a list of parts", "messages")
    said = CallMessage(role, "")
    texts: list[str] = []
    for number, part in enumerate(content):
        _take(part, said, texts, f"{where}.content[{number}]")
    said.text = "\n".join(texts)
    return said


def _take(part: Any, said: CallMessage, texts: list[str], where: str) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    match kind:
        case "text" | "input_text" | "output_text" | "refusal":
            text = part.get("refusal" if kind == "refusal" else "text")
            if not isinstance(text, str):
                raise refused(f"`{where}.text` must be a text", "messages")
            texts.append(text)
        case "image_url" | "input_image":
            url = part.get("image_url")
            url = url.get("url") if isinstance(url, dict) else url
            said.files.append(_of_url(url, None, f"image-{len(said.files) + 1}", where))
        case "file" | "input_file":
            inner = part.get("file") if kind == "file" else part
            inner = inner if isinstance(inner, dict) else {}
            name = inner.get("filename")
            data = inner.get("file_data")
            if data is None:
                raise refused(f"`{where}` has no `file_data`", "messages", _INLINE)
            said.files.append(_of_url(data, name, f"file-{len(said.files) + 1}", where))
        case "input_audio":
            audio = part.get("input_audio")
            audio = audio if isinstance(audio, dict) else {}
            kind = audio.get("format")
            ending = kind if isinstance(kind, str) and kind.isalnum() and len(kind) <= 5 else "wav"
            name = f"audio-{len(said.files) + 1}.{ending}"
            said.files.append(InlineFile(name, decoded(audio.get("data"), where)))
        case _:
            raise refused(f"`{where}` has a type that an agent does not take", "messages")


def _of_url(url: Any, name: Any, otherwise: str, where: str) -> InlineFile:
    """The file of a `data:` URL, or of plain base64 when it has a name."""
    if not isinstance(url, str):
        raise refused(f"`{where}` has no content", "messages", _INLINE)
    match = _DATA_URL.fullmatch(url)
    if match is None and not isinstance(name, str):
        raise refused(f"`{where}` is no `data:` URL", "messages", _INLINE)
    data = url if match is None else match["data"]
    if not isinstance(name, str) or not name:
        kind = None if match is None else match["type"]
        name = otherwise + ((mimetypes.guess_extension(kind) if kind else None) or "")
    return InlineFile(name[-_LONGEST_NAME:], decoded(data, where))


def decoded(data: Any, where: str) -> bytes:
    """The bytes of base64. Raises `CallRefused`."""
    if not isinstance(data, str) or not data:
        raise refused(f"`{where}` has no content", "messages", _INLINE)
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise refused(f"the content of `{where}` is not base64", "messages") from error


def refused(what: str, param: str | None = None, hint: str | None = None) -> CallRefused:
    """A refusal of a call that cannot be right."""
    return CallRefused(Refusal(400, what, hint, "invalid_value", param))


def thread_of(name: str | None) -> str:
    """The thread of a named conversation; a new one without a name. A name that no thread can have stands as a hash."""
    if not name:
        return secrets.token_hex(16)
    if len(name) <= _LONGEST_THREAD and name.isascii() and name.isprintable() and name.strip() == name:
        return name
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
