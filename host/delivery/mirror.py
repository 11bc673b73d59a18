"""What an agent sent to another chat, in the conversation of that chat: its session there knows what was said.

It is a message of kind `agent` that starts no turn, and stands there as soon as it was delivered: who answers it talks
to an agent that knows what the answer is about. A chat that the agent group does not serve has no conversation.
"""

from __future__ import annotations

from collections.abc import Iterator

from host.central import agent_groups, ingest, messaging_groups, routes, sessions
from host.central.database import Queryable, Transaction
from host.central.deliveries import Delivery
from host.central.messaging_groups import MessagingGroup, SessionMode, Wiring
from host.central.sessions import Session
from host.routing.route_key import route_key
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address, MessageInKind, MessageOutKind, decode, encode

OF_CHAT = """
SELECT id FROM sessions
WHERE agent_group_id = ? AND messaging_group_id = ? AND kind = 'chat' AND status = 'active' LIMIT 20
"""
MOST_CONTEXT = 50
"""Messages that wait in a conversation for a person to answer: an agent that posts every hour does not fill the next
turn with all of a month, and what a person writes is always among the open messages that one reconcile takes."""
_SAID = (MessageOutKind.CHAT, MessageOutKind.CARD, MessageOutKind.QUESTION)


def mirror(tx: Transaction, delivery: Delivery) -> None:
    """Put what was delivered into the conversations of its chat.

    Nothing for an answer, which stands where it was asked.
    """
    if delivery.kind not in _SAID or delivery.from_host or _is_at_home(tx, delivery):
        return
    chat = messaging_groups.find(tx, delivery.channel_type, delivery.platform_id)
    if chat is None:
        return
    for wiring in messaging_groups.wirings_of(tx, chat.id):
        if wiring.agent_group_id == delivery.agent_group_id:
            for session in _sessions(tx, chat, wiring):
                if session.id != delivery.session_id:
                    _put(tx, session, delivery)


def _is_at_home(connection: Queryable, delivery: Delivery) -> bool:
    """Whether it went where the message came from that it answers. The run of a schedule was asked for in no chat."""
    row = None if delivery.in_reply_to is None else ingest.get(connection, delivery.in_reply_to)
    if row is None or row.kind == MessageInKind.TASK:
        return False
    return (row.channel_type, row.platform_id) == delivery.chat


def _sessions(tx: Transaction, chat: MessagingGroup, wiring: Wiring) -> Iterator[Session]:
    """The conversations of a chat that an agent group serves: the one there will be, or each person's own."""
    if wiring.per_user:
        for row in tx.execute(OF_CHAT, (wiring.agent_group_id, chat.id)).fetchall():
            yield sessions.get(tx, row["id"])
        return
    address = Address(chat.channel_type, chat.platform_id)
    session = routes.resolve(
        tx,
        agent_group_id=wiring.agent_group_id,
        route_key=route_key(wiring.session_mode, address, agent_group_id=wiring.agent_group_id),
        messaging_group_id=chat.id if wiring.session_mode != SessionMode.AGENT_SHARED else None,
        thread_id=None,
    )
    if session.status == "active":
        yield session


def _put(tx: Transaction, session: Session, delivery: Delivery) -> None:
    """A delivery that is recorded twice stands there once."""
    group = agent_groups.by_id(tx, session.agent_group_id)
    content = decode(delivery.content)
    files = [str(name).rpartition("/")[2] for name in content.get("files") or []]
    lines = [str(content.get("text") or ""), *(f"[file: {name}]" for name in files)]
    _, added = ingest.accept(
        tx,
        {
            "message_id": new_id(Prefix.MESSAGE),
            "agent_group_id": session.agent_group_id,
            "session_id": session.id,
            "generation": session.generation,
            "channel_type": delivery.channel_type,
            "platform_id": delivery.platform_id,
            "thread_id": session.thread_id,
            "platform_message_id": f"sent-{delivery.session_id}/{delivery.message_out_id}/{session.id}",
            "sender_id": None,
            "sender_name": None if group is None else group.name,
            "kind": MessageInKind.AGENT,
            "trigger": 0,
            "content": encode({"text": "\n".join(line for line in lines if line)}),
            "spool": None,
            "accepted_at": tx.now,
        },
    )
    if added:
        ingest.cancel_old_context(tx, session.id, MOST_CONTEXT)
