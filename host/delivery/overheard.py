"""What an agent says in a chat, for the other agents of that chat, as their wirings have it (`agent_replies`).

It stands in their conversations as a message of kind `agent`: context of the next turn, or taken by the engage rule as
if a person had said it. Each answer to an answer is one hop further from the last person; beyond `MOST_HOPS` it is
context alone, and the chat is told. So agents that answer each other come to an end by themselves.
"""

from __future__ import annotations

from host.agents.limits import MOST_HOPS_IN_CHAT as MOST_HOPS
from host.central import agent_groups, deliveries, ingest, rate_limits, routes, usage
from host.central.database import Transaction
from host.central.deliveries import Delivery
from host.central.messaging_groups import AgentReplies, SessionMode, Wiring
from host.central.rate_limits import Act
from host.central.sessions import Session
from host.delivery.mirror import MOST_CONTEXT
from host.routing.engage import engages, names
from host.routing.route_key import route_key
from shared_schema.errors import InvalidValue
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address, MessageInKind, MessageOutKind, decode, encode

_SAID = (MessageOutKind.CHAT, MessageOutKind.QUESTION)
_HAVE_STOPPED = (
    "{one} and {other} have answered each other {hops} times, and stop here until a person writes. "
    "`dumbwaiter wire … --agent-replies context` lets them listen without answering."
)

# Those of other agents in the chat that do not ignore what agents say there.
OTHERS = """
SELECT w.* FROM messaging_groups m JOIN wirings w ON w.messaging_group_id = m.id
WHERE m.channel_type = ? AND m.platform_id = ? AND w.agent_group_id <> ? AND w.agent_replies <> ?
ORDER BY w.priority DESC, w.created_at, w.id
"""


def overhear(tx: Transaction, delivery: Delivery) -> None:
    """Put what was delivered into the conversations of the other agents of its chat."""
    if delivery.kind not in _SAID or delivery.from_host:
        return
    values = (*delivery.chat, delivery.agent_group_id, AgentReplies.IGNORE)
    others = [Wiring.from_row(row) for row in tx.execute(OTHERS, values).fetchall()]
    if not others:  # as nearly always: nothing else is read then
        return
    answered = None if delivery.in_reply_to is None else ingest.get(tx, delivery.in_reply_to)
    for wiring in others:
        session = _session(tx, wiring, delivery, answered)
        if session is not None:
            _put(tx, session, wiring, delivery, answered)


def _session(
    tx: Transaction, wiring: Wiring, delivery: Delivery, answered: ingest.AcceptedMessage | None
) -> Session | None:
    """The conversation of a wiring in which it was said; with `per_user`, that of the person who is answered."""
    sender_id = answered.sender_id if answered is not None and wiring.per_user else None
    try:
        key = route_key(
            wiring.session_mode,
            Address(delivery.channel_type, delivery.platform_id, delivery.thread_id),
            agent_group_id=wiring.agent_group_id,
            per_user=bool(wiring.per_user),
            sender_id=sender_id,
        )
    except InvalidValue:  # it names no person, and here each person has a conversation of their own
        return None
    session = routes.resolve(
        tx,
        agent_group_id=wiring.agent_group_id,
        route_key=key,
        messaging_group_id=wiring.messaging_group_id if wiring.session_mode != SessionMode.AGENT_SHARED else None,
        thread_id=delivery.thread_id if wiring.session_mode == SessionMode.PER_THREAD else None,
        sender_id=sender_id,
    )
    return session if session.status == "active" else None


def _put(
    tx: Transaction,
    session: Session,
    wiring: Wiring,
    delivery: Delivery,
    answered: ingest.AcceptedMessage | None,
) -> None:
    """A delivery that is recorded twice stands there once."""
    speaker, listener = (agent_groups.by_id(tx, each) for each in (delivery.agent_group_id, wiring.agent_group_id))
    if speaker is None or listener is None:
        return
    content = decode(delivery.content)
    text = str(content.get("text") or "")
    hops = 1 if answered is None else answered.hops + 1
    wants = wiring.agent_replies == AgentReplies.ENGAGE and engages(
        wiring.rule, wiring.pattern, text=text, is_mention=names(listener.name, text), is_group=True
    )
    answers = wants and hops <= MOST_HOPS and usage.exhausted(tx, listener.id, tx.now) is None
    _, added = ingest.accept(
        tx,
        {
            "message_id": new_id(Prefix.MESSAGE),
            "agent_group_id": session.agent_group_id,
            "session_id": session.id,
            "generation": session.generation,
            "channel_type": delivery.channel_type,
            "platform_id": delivery.platform_id,
            "thread_id": delivery.thread_id,
            "platform_message_id": f"heard-{delivery.session_id}/{delivery.message_out_id}",
            "sender_id": None,
            "sender_name": speaker.name,
            "kind": MessageInKind.AGENT,
            "trigger": int(answers),
            "content": encode({"text": text}),
            "spool": None,
            "accepted_at": tx.now,
            "hops": hops,
        },
    )
    if not added:
        return
    ingest.cancel_old_context(tx, session.id, MOST_CONTEXT)
    if wants and hops > MOST_HOPS:
        address = Address(delivery.channel_type, delivery.platform_id, delivery.thread_id)
        rate_limits.take(tx, Act.HOPS, f"{delivery.channel_type}:{delivery.platform_id}")
        told = _HAVE_STOPPED.format(one=speaker.name, other=listener.name, hops=MOST_HOPS)
        deliveries.add_notice(tx, session.id, address, None, told)
