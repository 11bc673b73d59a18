"""What a person can do about quiet hours."""

from __future__ import annotations

from typing import Any

from host.central import audit, messaging_groups, users
from host.central import quiet_hours as table
from host.central.database import Queryable, Transaction
from host.central.quiet_hours import QuietHours
from host.schedules import when
from host.services import Services
from shared_schema.errors import Conflict, NotFound


async def put(
    services: Services, *, subject: str, hours: str, zone: str | None = None, of: str | None = None
) -> dict[str, Any]:
    """Set the quiet hours of a chat, or of a user's person in their direct chats. Raises `InvalidValue`, `NotFound`.

    `of` is `chat` or `user`, where both are called so.
    """
    begins, ends = when.hours(hours)
    named = None if zone is None else when.zone(zone)

    def store(tx: Transaction) -> dict[str, Any]:
        kind, key, chat_zone = _subject(tx, subject, of)
        found = QuietHours(begins, ends, named or chat_zone or services.settings.zone)
        table.put(tx, kind, key, found)
        audit.record(tx, "quiet_hours.set", subject, after={"hours": hours, "zone": found.timezone})
        return {"of": kind, "subject": subject, "hours": f"{begins}-{ends}", "zone": found.timezone}

    return await services.central.write(store)


async def list_all(services: Services) -> list[dict[str, Any]]:
    """All quiet hours."""
    return await services.central.read(lambda c: [_shown(row) for row in table.listed(c)])


async def remove(services: Services, *, subject: str, of: str | None = None) -> dict[str, Any]:
    """Take quiet hours away; what is held stays held. Raises `NotFound`."""

    def drop(tx: Transaction) -> None:
        kind, key, _ = _subject(tx, subject, of)
        table.remove(tx, kind, key)
        audit.record(tx, "quiet_hours.remove", subject)

    await services.central.write(drop)
    return {"removed": subject}


def _subject(connection: Queryable, subject: str, of: str | None) -> tuple[str, str, str | None]:
    """What is meant: kind, key, and the time zone of a chat."""
    channel, platform_id = messaging_groups.parse_address(subject)
    chat = messaging_groups.find(connection, channel, platform_id) if of in (None, "chat") else None
    user = users.find(connection, subject) if of in (None, "user") else None
    if chat is not None and user is not None:
        raise Conflict(f"there are a chat and a user called {subject}", hint="say which: --of chat or --of user")
    if chat is not None:
        return "chat", chat.address, chat.timezone
    if user is None:
        raise NotFound(
            f"there is neither a chat nor a user {subject}",
            hint="`dumbwaiter messaging-group list` and `dumbwaiter user list` show all",
        )
    direct = None if user.direct_chat is None else messaging_groups.find(connection, user.channel, user.direct_chat)
    return "person", user.person_id, None if direct is None else direct.timezone


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "of": "chat" if row["kind"] == "chat" else "person",
        "subject": row["users"] or row["subject"],
        "hours": f"{row['begins']}-{row['ends']}",
        "zone": row["timezone"],
    }
