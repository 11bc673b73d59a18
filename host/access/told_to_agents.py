"""What became of an approval that an agent has asked for: a message in the conversation that asked.

It is accepted in the transaction of the decision, so it reaches the agent after any restart; and it wakes the agent,
unless a turn still waits for it and takes it along.
"""

from __future__ import annotations

from collections.abc import Mapping

from host.central import ingest, routes, sessions
from host.central.database import Queryable, Transaction
from host.central.sessions import Session
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import MessageInKind, encode

_HOST = "Dumbwaiter"


def tell(tx: Transaction, session_id: str, key: str, text: str, more: Mapping[str, object]) -> None:
    """Tell the agent of a conversation something, once for each key; nothing where the conversation is over."""
    session = _goes_on(tx, session_id)
    address = None if session is None else ingest.last_address(tx, session.id)
    if session is None or address is None:
        return
    ingest.accept(
        tx,
        {
            "message_id": new_id(Prefix.MESSAGE),
            "agent_group_id": session.agent_group_id,
            "session_id": session.id,
            "generation": session.generation,
            "channel_type": address.channel_type,
            "platform_id": address.platform_id,
            "thread_id": address.thread_id,
            "platform_message_id": key,
            "sender_id": None,
            "sender_name": _HOST,
            "kind": MessageInKind.AGENT,
            "trigger": 1,
            "content": encode({"text": text, **more}),
            "spool": None,
            "accepted_at": tx.now,
            "hops": ingest.last_hops(tx, session.id),
        },
    )


def _goes_on(connection: Queryable, session_id: str) -> Session | None:
    """The conversation, or the one that it goes on in after a summary, where it is active."""
    session = sessions.lookup(connection, session_id)
    while session is not None and session.status == "ended" and session.end_reason == "compressed":
        following = routes.route_of(connection, session).active_session_id
        session = None if following in (None, session.id) else sessions.lookup(connection, str(following))
    return session if session is not None and session.status == "active" else None
