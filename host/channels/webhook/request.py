"""From the body of a signed request to an event. Pure."""

from __future__ import annotations

import re
from typing import Any

from host.channels.webhook.settings import Hook
from host.channels.webhook.template import MAX_TEXT, as_text, at, filled, identifier
from host.routing.event import Event
from shared_schema import json_text
from shared_schema.errors import InvalidValue
from shared_schema.rows import Address
from shared_schema.text import one_line

_CHAT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONGEST_NAME = 200


def is_chat(name: str) -> bool:
    """Whether the last part of a path can name a chat."""
    return _CHAT.fullmatch(name) is not None


def event_of(
    address: Address, message_id: str, body: bytes, hook: Hook, *, is_json: bool, traceparent: str | None = None
) -> Event:
    """The event of a request. Raises `InvalidValue` for a body that cannot be read or names what cannot be.

    Without a template the text is the member `text`, or all of the JSON. A caller that does not say who speaks is
    called by the name of its chat. `traceparent` is the header of that name.
    """
    document = _document(body) if is_json else None
    if not is_json:
        text = body.decode("utf-8", "replace")
    elif hook.text is not None:
        text = filled(hook.text, document)
    else:
        said = at(document, "/text")
        text = said if isinstance(said, str) else as_text(document)
    event = Event(
        address=Address(address.channel_type, address.platform_id, identifier(document, hook.thread or "/thread")),
        platform_message_id=message_id,
        text=text[:MAX_TEXT],
        sender_id=identifier(document, hook.sender or "/sender") or address.platform_id,
        sender_name=_name(document, hook.sender_name or "/sender_name"),
        is_mention=True,
        is_group=False,
        traceparent=traceparent,
    )
    event.require_identifiers()
    return event


def _name(document: Any, pointer: str) -> str | None:
    name = at(document, pointer)
    return one_line(name, _LONGEST_NAME) or None if isinstance(name, str) else None


def _document(body: bytes) -> Any:
    try:
        return json_text.parse(body)
    except ValueError as error:  # UnicodeDecodeError is one
        raise InvalidValue(f"the body is no JSON that can be read: {type(error).__name__}") from error
