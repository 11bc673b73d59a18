"""Handing a task to a conversation of its own, and its result back: each in one transaction.

A task has a number of tokens and a time; five run at once for one conversation, and none hands on further tasks. What
its agent says is kept, and handed back as one message when its turn is over, or when its time or its tokens are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from host.access.told_to_agents import tell
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
from host.central.delegations import Delegation, DelegationState
from host.central.rate_limits import Act
from host.central.sessions import Session
from host.sessions import transitions
from host.traceparent import of_message
from shared_schema.clock import from_text, to_text
from shared_schema.errors import Conflict
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import MessageInKind, MessageInStatus, decode, encode

MOST_AT_ONCE = 5
"""Tasks of one conversation that run at the same time."""
MOST_RESULT = 60_000
"""Characters of a result: what several agents found out has to fit into the mind of one."""
_ENDED = {
    DelegationState.DONE: "is done",
    DelegationState.FAILED: "has failed",
    DelegationState.LATE: "had no time left, and was stopped",
    DelegationState.SPENT: "has used up its tokens, and was stopped",
}


class DelegationLimit(Conflict):
    """One task more than there may be: a person is to know of it as well."""


def begin(tx: Transaction, parent: Session, arguments: Mapping[str, Any]) -> tuple[str, Delegation]:
    """Hand a task over; who works at it, and the task. The same task is handed over once. Raises `Conflict`."""
    group = agent_groups.by_id(tx, parent.agent_group_id)
    if group is None:
        raise Conflict("this agent is gone")
    target = _target(tx, group, arguments["agent"])
    task_id = f"{parent.id}/{arguments['key']}"
    if (known := delegations.get(tx, task_id)) is not None:
        return target.name, known
    _require_room(tx, group, target, parent)
    session = routes.resolve(
        tx,
        agent_group_id=target.id,
        route_key=f"delegate/{task_id}",
        messaging_group_id=None,
        thread_id=None,
        kind="agent",
    )
    asked = ingest.oldest_unanswered(tx, parent.id)
    row, _ = ingest.accept(
        tx,
        {
            "message_id": new_id(Prefix.MESSAGE),
            "agent_group_id": target.id,
            "session_id": session.id,
            "generation": session.generation,
            "channel_type": AGENT_CHANNEL,
            "platform_id": parent.id,
            "thread_id": None,
            "platform_message_id": f"delegate-{task_id}",
            "sender_id": None,
            "sender_name": group.name,
            "kind": MessageInKind.AGENT,
            "trigger": 1,
            "content": encode({"text": str(arguments["task"])}),
            "spool": None,
            "accepted_at": tx.now,
            "hops": ingest.last_hops(tx, parent.id) + 1,
            "traceparent": None if asked is None else of_message(asked.message_id, asked.traceparent).header,
        },
    )
    deadline = to_text(from_text(tx.now) + timedelta(minutes=int(arguments["minutes"])))
    delegations.insert(
        tx,
        id=task_id,
        parent_id=parent.id,
        session_id=session.id,
        message_id=row.message_id,
        budget_tokens=int(arguments["tokens"]),
        deadline=deadline,
    )
    made = delegations.get(tx, task_id)
    assert made is not None
    return target.name, made


def due(connection: Queryable, task: Delegation, now: str) -> DelegationState | None:
    """How a task is to end now; None: it goes on. Those that are to be stopped are still at work."""
    parent = sessions.lookup(connection, task.parent_id)
    if task.state == DelegationState.STOPPING or parent is None or not _goes_on(parent):
        return DelegationState.STOPPED
    row = ingest.get(connection, task.message_id)
    if row is not None and row.status == MessageInStatus.COMPLETED:
        return DelegationState.DONE
    if row is not None and row.status == MessageInStatus.FAILED:
        return DelegationState.FAILED
    # Asked before whether it was cancelled: that a host does for these, which may have died before it said so.
    if task.deadline <= now:
        return DelegationState.LATE
    said = usage.of_session(connection, task.session_id)
    if max(task.called_tokens, said.input_tokens + said.output_tokens) >= task.budget_tokens:
        return DelegationState.SPENT
    is_cancelled = row is None or row.status == MessageInStatus.CANCELLED  # by a person
    return DelegationState.FAILED if is_cancelled else None


def result_of(connection: Queryable, task: Delegation) -> tuple[str, list[str]]:
    """What the agent of a task has said, and the files that it has sent, below its session's folder."""
    texts, files = [], []
    for delivery in deliveries.said_in(connection, task.session_id):
        content = decode(delivery["content"])
        texts.append(str(content.get("text") or ""))
        files += [str(name) for name in content.get("files", [])]
    return "\n\n".join(text for text in texts if text.strip())[:MOST_RESULT], files


def hand_back(
    tx: Transaction,
    task: Delegation,
    state: DelegationState,
    said: str,
    *,
    spool: str | None = None,
    files: Sequence[str] = (),
) -> bool:
    """Note how a task ended, tell the conversation that asked, and lay its own to rest. False when it ended before."""
    if not delegations.finish(tx, task.id, state):
        return False
    session = sessions.lookup(tx, task.session_id)
    if state != DelegationState.STOPPED:
        group = None if session is None else agent_groups.by_id(tx, session.agent_group_id)
        name = "The task" if group is None else f"The task that you gave to {group.name}"
        row = ingest.get(tx, task.message_id)
        begun = "" if row is None else " ".join(ingest.text_of(row).split())[:80]
        text = f"{name} (“{begun}”) {_ENDED[state]}.\n\n{said or 'It has said nothing.'}"
        tell(tx, task.parent_id, f"delegate-{task.id}", text, {}, spool=spool, files=files, hops=2)
    if session is not None and session.status == "active":
        transitions.archive(tx, session)
    return True


def _target(connection: Queryable, group: AgentGroup, name: str | None) -> AgentGroup:
    """Who is to work at a task: the agent group itself, or one that it may write to. Raises `Conflict`."""
    if name is None or name == group.name:
        return group
    for link in agent_links.of(connection, group.id):
        if link.name == name and link.agent_group_id is not None:
            found = agent_groups.by_id(connection, link.agent_group_id)
            if found is not None:
                return found
    raise Conflict(f"'{name}' is no agent that you may write to", hint="`list_destinations` shows those")


def _require_room(tx: Transaction, group: AgentGroup, target: AgentGroup, parent: Session) -> None:
    """Raises `Conflict` for a task that is one too many."""
    if delegations.is_of(tx, parent.id):
        raise Conflict("this is a task that was delegated to you, and it is not handed on", hint="do it yourself")
    if delegations.open_count(tx, parent.id) >= MOST_AT_ONCE:
        raise DelegationLimit(f"{MOST_AT_ONCE} tasks of this conversation run already", hint="wait for one of them")
    if ingest.last_hops(tx, parent.id) + 1 > limits.MOST_HOPS_BETWEEN:
        raise DelegationLimit(limits.too_many_hops(group.name, target.name))
    if (sentence := usage.refusal(tx, target, tx.now)) is not None:
        raise Conflict(f"{target.name} does not answer: {sentence}")
    # Counted last, and only for what is begun: a refusal undoes its own transaction.
    most = rate_limits.PER_HOUR[Act.DELEGATIONS]
    if rate_limits.used(tx, Act.DELEGATIONS, group.name, tx.now) >= most:
        raise DelegationLimit(f"{group.name} has delegated {most} tasks in this hour", hint="do it yourself")
    rate_limits.take(tx, Act.DELEGATIONS, group.name)


def _goes_on(parent: Session) -> bool:
    return parent.status == "active" or (parent.status == "ended" and parent.end_reason == "compressed")
