"""What became of an approval that an agent has asked for: a message in the conversation that asked.

It is accepted in the transaction of the decision, so it reaches the agent after any restart; and it wakes the agent,
unless a turn still waits for it and takes it along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from host.central import ingest, routes, sessions
from host.central.database import Queryable, Transaction
from host.central.sessions import Session
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import MessageInKind, encode

_HOST = "Dumbwaiter"


def tell(
    tx: Transaction,
    session_id: str,
    key: str,
    text: str,
    more: Mapping[str, object],
    *,
    spool: str | None = None,
    files: Sequence[str] = (),
    hops: int = 0,
    wakes: bool = True,
) -> None:
    """Tell the agent of a conversation something, once for each key; nothing where the conversation is over.

    `files` lie in the folder `spool`; `hops` is how many more times agents have written to each other by that. What
    does not wake the agent it reads with its next turn.
    """
    session = _goes_on(tx, session_id)
    address = None if session is None else ingest.last_address(tx, session.id)
    if session is None or address is None:
        return
    message_id = new_id(Prefix.MESSAGE)
    content: dict[str, object] = {"text": text, **more}
    if files:
        content["files"] = [{"name": name, "path": f"inbox/{message_id}/{name}"} for name in files]
    ingest.accept(
        tx,
        {
            "message_id": message_id,
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
            "trigger": int(wakes),
            "content": encode(content),
            "spool": spool,
            "accepted_at": tx.now,
            "hops": ingest.last_hops(tx, session.id) + hops,
        },
    )


def _goes_on(connection: Queryable, session_id: str) -> Session | None:
    """The conversation, or the one that it goes on in after a summary, where it is active."""
    session = sessions.lookup(connection, session_id)
    while session is not None and session.status == "ended" and session.end_reason == "compressed":
        following = routes.route_of(connection, session).active_session_id
        session = None if following in (None, session.id) else sessions.lookup(connection, str(following))
    return session if session is not None and session.status == "active" else None
