"""What an agent writes to another agent, put into that agent's conversation: in one transaction, once for each message.

An agent asks an agent group, which has one conversation for each conversation that asks. It answers a session: the one
that asked. There the answer stands in the chat of the person whose message began it, so what that agent says of it goes
to that person, and not back to the other agent.
"""

from __future__ import annotations

from collections.abc import Sequence

from host.agents import limits
from host.central import (
    agent_groups,
    agent_links,
    delegations,
    deliveries,
    ingest,
    rate_limits,
    routes,
    sessions,
    usage,
)
from host.central.agent_groups import AgentGroup
from host.central.agent_links import AGENT_CHANNEL
from host.central.database import Queryable, Transaction
from host.central.rate_limits import Act
from host.central.sessions import Session
from host.traceparent import of_message
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError
from shared_schema.ids import Prefix, is_id, new_id
from shared_schema.rows import Address, MessageInKind, encode


class NotHandedOver(DumbwaiterError):
    """A message between agents is refused for good. `is_limit`: a limit has struck, of which a person is to know."""

    def __init__(self, what: str, *, is_limit: bool = False) -> None:
        super().__init__(what)
        self.is_limit = is_limit


@dataclass(frozen=True, slots=True)
class AgentMessage:
    """What one agent writes: `key` is the same at every attempt, `to` an agent group's or a session's id.

    `answers` is the message of its own session that it follows; `from_host`: it is the host that speaks there. Its
    `files` lie in the folder `spool`.
    """

    session_id: str
    key: str
    to: str
    text: str
    answers: str | None
    from_host: bool
    spool: str | None = None
    files: Sequence[str] = ()


def hand_over(tx: Transaction, message: AgentMessage, now: str) -> str | None:
    """Accept it for the session it is for; its id, None when it was accepted before. Raises `NotHandedOver`."""
    speaker = sessions.lookup(tx, message.session_id)
    group = None if speaker is None else agent_groups.by_id(tx, speaker.agent_group_id)
    if speaker is None or group is None:
        raise NotHandedOver("the conversation it comes from is gone")
    asks_back = _asker(tx, speaker, message.to)
    if (asks_back or is_id(message.to, Prefix.SESSION)) and delegations.is_of(tx, speaker.id):
        return None  # what is said of a task is kept, and handed back as one message
    is_answer = is_id(message.to, Prefix.SESSION) or asks_back is not None
    to = asks_back or message.to
    listener = _asking(tx, to) if is_answer else _asked(tx, speaker, to, now)
    target = agent_groups.by_id(tx, listener.agent_group_id)
    if target is None:
        raise NotHandedOver("that agent is gone")
    platform_message_id = f"{AGENT_CHANNEL}-{message.key}"
    address = _address(tx, listener, speaker, is_answer=is_answer)
    if ingest.known(tx, target.id, address.channel_type, address.platform_id, platform_message_id):
        return None
    hops = _hops(tx, speaker, message.answers)
    _require_within_limits(tx, group, target, hops, now)
    if (sentence := usage.refusal(tx, target, now)) is not None:
        raise NotHandedOver(f"{target.name} does not answer: {sentence}")
    message_id = new_id(Prefix.MESSAGE)
    content: dict[str, object] = {"text": message.text}
    if message.files:
        content["files"] = [{"name": name, "path": f"inbox/{message_id}/{name}"} for name in message.files]
    ingest.accept(
        tx,
        {
            "message_id": message_id,
            "agent_group_id": target.id,
            "session_id": listener.id,
            "generation": listener.generation,
            "channel_type": address.channel_type,
            "platform_id": address.platform_id,
            "thread_id": address.thread_id,
            "platform_message_id": platform_message_id,
            "sender_id": None,
            "sender_name": group.name,
            "kind": MessageInKind.AGENT,
            # What the host says besides, of a title or a summary, does not wake the agent; that a message failed does.
            "trigger": int(not message.from_host or message.answers is not None),
            "content": encode(content),
            "spool": message.spool,
            "accepted_at": now,
            "hops": hops,
            "traceparent": _traceparent(tx, speaker, message.answers),
        },
    )
    return listener.id


def _asked(tx: Transaction, speaker: Session, agent_group_id: str, now: str) -> Session:
    """The conversation of an agent group with the conversation that asks. Raises `NotHandedOver`."""
    if not agent_links.is_between(tx, speaker.agent_group_id, agent_group_id):
        raise NotHandedOver("that agent is not one of its destinations any more")
    session = routes.resolve(
        tx,
        agent_group_id=agent_group_id,
        route_key=f"{AGENT_CHANNEL}/{speaker.route_id}",
        messaging_group_id=None,
        thread_id=None,
        kind="agent",
    )
    if session.status != "active":
        raise NotHandedOver("that agent's side of the conversation is archived; `dumbwaiter session resume` opens it")
    return session


def _asker(connection: Queryable, speaker: Session, agent_group_id: str) -> str | None:
    """The conversation of that agent group that has asked this one: what is written to the agent goes there."""
    last = ingest.last_address(connection, speaker.id)
    if last is None or last.channel_type != AGENT_CHANNEL:
        return None
    asker = sessions.lookup(connection, last.platform_id)
    return asker.id if asker is not None and asker.agent_group_id == agent_group_id else None


def _asking(connection: Queryable, session_id: str) -> Session:
    """The conversation that asked, or the one it goes on in after a summary. Raises `NotHandedOver`."""
    session = sessions.lookup(connection, session_id)
    while session is not None and session.status == "ended" and session.end_reason == "compressed":
        following = routes.route_of(connection, session).active_session_id
        session = None if following in (None, session.id) else sessions.lookup(connection, str(following))
    if session is None or session.status != "active":
        raise NotHandedOver("the conversation that asked is over")
    return session


def _address(connection: Queryable, listener: Session, speaker: Session, *, is_answer: bool) -> Address:
    """Where the listener's answer goes: back to who asks, or to whom the one that asked was speaking with."""
    if is_answer and (last := ingest.last_address(connection, listener.id)) is not None:
        return last
    return Address(AGENT_CHANNEL, speaker.id)


def _traceparent(connection: Queryable, speaker: Session, answers: str | None) -> str | None:
    """The place in its trace of what the speaker answers with this message: the other agent's work is a part of it."""
    answered = None if answers is None else ingest.get(connection, answers)
    if answered is None or answered.session_id != speaker.id:
        return None
    return of_message(answered.message_id, answered.traceparent).header


def _hops(connection: Queryable, speaker: Session, answers: str | None) -> int:
    """How often agents have written to each other since a person wrote, with this message."""
    answered = None if answers is None else ingest.get(connection, answers)
    if answered is None or answered.session_id != speaker.id:
        return ingest.last_hops(connection, speaker.id) + 1
    return answered.hops + 1


def _require_within_limits(tx: Transaction, group: AgentGroup, target: AgentGroup, hops: int, now: str) -> None:
    pair = f"{group.name} to {target.name}"
    if hops > limits.MOST_HOPS_BETWEEN:
        raise NotHandedOver(limits.too_many_hops(group.name, target.name), is_limit=True)
    # Counted last, and only by what is handed over: a message that is tried again is counted once.
    if rate_limits.used(tx, Act.AGENT_MESSAGES, pair, now) >= limits.MOST_MESSAGES_PER_HOUR:
        raise NotHandedOver(limits.too_many_messages(group.name, target.name), is_limit=True)
    rate_limits.take(tx, Act.AGENT_MESSAGES, pair)


def tell_of_limit(tx: Transaction, speaker: Session | None, act: Act, why: str) -> None:
    """Count a limit that has struck, and say so once an hour where a person takes part.

    Where the conversation has no person in it, it is that of the agents before it, or `status` alone.
    """
    if speaker is None:
        return
    group = agent_groups.by_id(tx, speaker.agent_group_id)
    subject = speaker.agent_group_id if group is None else group.name
    if not rate_limits.take(tx, act, subject).is_first:
        return
    found = _with_person(tx, speaker)
    if found is None:
        return
    session_id, address = found
    deliveries.add_notice(tx, session_id, address, None, f"{why}.")


def _with_person(connection: Queryable, session: Session) -> tuple[str, Address] | None:
    """The session and chat of the person with whom a chain of agents began."""
    seen: set[str] = set()
    current: Session | None = session
    while current is not None and current.id not in seen:
        seen.add(current.id)
        address = ingest.last_address(connection, current.id)
        if address is None:
            return None
        if address.channel_type != AGENT_CHANNEL:
            return current.id, address
        current = sessions.lookup(connection, address.platform_id)
    return None
