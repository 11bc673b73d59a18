"""What a channel is handed of a delivery: its text, its files, the buttons of its question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.central.deliveries import Delivery
from host.channels.protocol import Button, Outgoing
from host.routing.updates import ANSWER
from shared_schema.ids import Prefix, is_id
from shared_schema.layout import DataLayout
from shared_schema.rows import Address, MessageOutKind, decode

_MOST_BUTTONS = 8
_LONGEST_LABEL = 60


def outgoing_of(delivery: Delivery, layout: DataLayout) -> Outgoing:
    """Returns the whole message, before it is divided into parts. Raises `FileDamaged` for damaged content."""
    content = decode(delivery.content)
    files = [str(name) for name in content.get("files", [])] if delivery.kind == MessageOutKind.CHAT else []
    folder = layout.session(delivery.agent_group_id, delivery.session_id).folder if files else None
    return Outgoing(
        key=f"{delivery.session_id}/{delivery.message_out_id}",
        address=Address(delivery.channel_type, delivery.platform_id, delivery.thread_id),
        kind=delivery.kind,
        text=str(content.get("text", "")),
        files=tuple(folder / name for name in files) if folder is not None else (),
        in_reply_to=delivery.in_reply_to,
        from_host=bool(delivery.from_host),
        buttons=_buttons(delivery, content),
        # What was handed in by hand has an id of ours, which no platform knows.
        reply_to=None if is_id(delivery.reply_to, Prefix.MESSAGE) else delivery.reply_to,
        draft_id=delivery.draft_id,
    )


def _buttons(delivery: Delivery, content: Mapping[str, Any]) -> tuple[Button, ...]:
    """The options of a question; the text has them, too, for where there are no buttons."""
    options = content.get("options") if delivery.kind == MessageOutKind.QUESTION else None
    if not isinstance(options, list) or len(options) > _MOST_BUTTONS:
        return ()
    return tuple(
        Button(str(option.get("label") or number)[:_LONGEST_LABEL], f"{ANSWER}{delivery.message_out_id}:{number}")
        for number, option in enumerate(options, 1)
        if isinstance(option, dict)
    )
