"""Sessions that were held elsewhere, or earlier, as rows of this registry: ended, and ready to be taken up again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

from host.central import messaging_groups, sessions, titles
from host.central.database import Transaction
from host.central.sessions import EndReason
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue
from shared_schema.ids import Prefix, new_id

# A session needs a route; that of an imported one is its own, and no event leads there.
INSERT_ROUTE = "INSERT INTO routes (id, agent_group_id, route_key) VALUES (?, ?, ?)"
INSERT = """
INSERT INTO sessions (id, agent_group_id, route_id, messaging_group_id, thread_id, generation, kind, status, end_reason,
    created_at, last_active, ended_at, out_cursor, preview)
VALUES (:id, :agent_group_id, :route_id, :messaging_group_id, :thread_id, :generation, 'chat', 'ended', :end_reason,
    :created_at, :last_active, :last_active, :out_cursor, :preview)
"""


@dataclass(frozen=True, slots=True)
class Imported:
    """What is known of a session. `messaging_group` is an address; `out_cursor` the last message its agent wrote."""

    id: str
    agent_group_id: str
    messaging_group: str | None
    thread_id: str | None
    generation: int
    end_reason: str | None
    title: str | None
    created_at: str
    last_active: str
    out_cursor: int
    preview: str | None


def insert(tx: Transaction, new: Imported) -> bool:
    """Put an ended session in. False when there is one with that id; then nothing is changed."""
    if sessions.lookup(tx, new.id) is not None:
        return False
    route_id = new_id(Prefix.ROUTE)
    tx.execute(INSERT_ROUTE, (route_id, new.agent_group_id, f"import/{new.id}"))
    channel_type, _, platform_id = (new.messaging_group or "").partition(":")
    chat = messaging_groups.find(tx, channel_type, platform_id)
    values = asdict(new) | {
        "route_id": route_id,
        "messaging_group_id": None if chat is None else chat.id,
        "end_reason": new.end_reason or EndReason.IMPORTED,
    }
    tx.execute(INSERT, values)
    if new.title is not None:
        with suppress(InvalidValue):  # it has then none
            titles.set_manual(tx, sessions.get(tx, new.id), new.title, lineage=True)
    return True
