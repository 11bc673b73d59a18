"""The route key: which conversation an event belongs to. One pure function (DESIGN section 5).

The mode is part of the key, so sessions of different modes never meet; the agent group is the other half of the key in
`central.db: routes`. Parts are quoted, so that no platform id can look like another's key.
"""

from __future__ import annotations

from urllib.parse import quote

from host.central.messaging_groups import SessionMode
from shared_schema.errors import InvalidValue
from shared_schema.rows import Address


def route_key(
    mode: str, address: Address, *, agent_group_id: str, per_user: bool = False, sender_id: str | None = None
) -> str:
    """The key of an event under a wiring's session mode.

    `shared` is the messaging group, `per-thread` the messaging group and thread (messages outside threads have one of
    their own), `agent-shared` the agent group. `per_user` adds the sender. Raises `InvalidValue` for an event without
    the identifiers its mode needs: that is an error, never a shared bucket.
    """
    if not address.channel_type or not address.platform_id or not agent_group_id:
        raise InvalidValue("an event without a channel, chat or agent group belongs to no session")
    if per_user and not sender_id:
        raise InvalidValue("an event without a sender belongs to no session of a wiring with --per-user")
    for part in (address.channel_type, address.platform_id, address.thread_id, sender_id):
        if part is not None and not part.isascii() and any("\ud800" <= character <= "\udfff" for character in part):
            raise InvalidValue("an event whose identifiers have half characters belongs to no session")
    chat = [quote(address.channel_type, safe=""), quote(address.platform_id, safe="")]
    match mode:
        case SessionMode.SHARED:
            parts = ["shared", *chat]
        case SessionMode.PER_THREAD:
            thread = f"t:{quote(address.thread_id, safe='')}" if address.thread_id else "-"
            parts = ["per-thread", *chat, thread]
        case SessionMode.AGENT_SHARED:
            parts = ["agent-shared", quote(agent_group_id, safe="")]
        case _:
            raise InvalidValue(f"'{mode}' is not a session mode: use {', '.join(SessionMode)}")
    if per_user and sender_id:
        parts.append(f"u:{quote(address.channel_type, safe='')}:{quote(sender_id, safe='')}")
    return "/".join(parts)


def chat_prefixes(channel_type: str, platform_id: str) -> list[str]:
    """How the keys of all routes of a chat begin; what follows begins with a slash."""
    chat = f"{quote(channel_type, safe='')}/{quote(platform_id, safe='')}"
    return [f"{mode}/{chat}" for mode in ("shared", "per-thread")]
