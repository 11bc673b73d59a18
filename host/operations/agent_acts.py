"""What an agent asks for about itself: done at once, refused, or put before a person, as its agent group's policy says.

A question is asked in the chat of the conversation and of all who may decide it. Where there is none of them, it is not
asked: that is a denial, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.access import approvals as rules
from host.access.agent_acts import ACTS, CALL
from host.access.kinds import ApprovalKind
from host.access.policies import ActPolicy, policy_of
from host.central import agent_groups, audit, call_grants, ingest, rate_limits, sessions, users
from host.central import approvals as table
from host.central.agent_groups import AgentGroup
from host.central.agent_links import AGENT_CHANNEL
from host.central.approvals import ApprovalState
from host.central.audit import Actor
from host.central.database import Queryable, Transaction
from host.central.deliveries import NO_CHAT
from host.central.messaging_groups import TERMINAL_CHANNEL
from host.central.rate_limits import Act
from host.central.sessions import Session
from host.operations.push import push_to_agent_group
from host.services import Services
from shared_schema.clock import from_text
from shared_schema.errors import Conflict
from shared_schema.rows import Address

_DENIAL_HOLDS = 3600.0
"""Seconds for which a no to a call stands: the very same call is not asked about again."""


async def asked(services: Services, session: Session, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """An agent asks for an act: `{said, state}`. Raises `Conflict`, `InvalidValue`, which the agent is told."""
    act = ACTS[name]

    def run(tx: Transaction) -> tuple[str, str, str | None]:
        group = _group(tx, session)
        subject, about = act.wish(tx, group, arguments)
        about = {"agent": group.name, **about, "agent_group_id": group.id, "session_id": session.id}
        match policy_of(group.policy_of_acts, act.policy):
            case ActPolicy.DENY:
                raise Conflict(f"{group.name} may not ask for that: its operator has set {act.policy}=deny")
            case ActPolicy.ALLOW:
                with audit.acting(Actor(f"agent {group.name}", session.id)):
                    return act.carry_out(tx, group, about), "done", group.id
            case _:
                code, _ = ask_people(tx, act.kind, f"{group.id}/{subject}", about, group, session)
                said = f"A person is asked (approval {code}). You are told when it is decided; go on meanwhile."
                return said, "asked", None

    said, state, changed = await services.central.write(run)
    if changed is not None:
        await push_to_agent_group(services, changed)
    return {"said": said, "state": state}


async def may_call(services: Services, session: Session, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a call of a tool may be made: `{state: approved | denied | asked, approval, code, by}`."""
    call = str(arguments["call"])

    def run(tx: Transaction) -> dict[str, Any]:
        if call_grants.holds(tx, session.id, call, tx.now):
            return {"state": "approved"}
        subject = f"{session.id}/{call}"
        last = table.last_for(tx, CALL.name, subject)
        if last is not None and last.state == ApprovalState.DENIED and _is_fresh(last.decided_at, tx.now):
            return {"state": "denied", "by": last.decided_by}
        group = _group(tx, session)
        about = {
            "agent": group.name,
            "tool": arguments["tool"],
            "arguments": arguments["arguments"],
            "agent_group_id": group.id,
            "session_id": session.id,
            "call": call,
        }
        code, approval_id = ask_people(tx, CALL, subject, about, group, session)
        return {"state": "asked", "approval": approval_id, "code": code}

    return await services.central.write(run)


def _group(connection: Queryable, session: Session) -> AgentGroup:
    group = agent_groups.by_id(connection, session.agent_group_id)
    if group is None:
        raise Conflict("this agent is gone")
    return group


def ask_people(
    tx: Transaction, kind: ApprovalKind, subject: str, about: Mapping[str, Any], group: AgentGroup, session: Session
) -> tuple[str, str]:
    """Put something before people; code and id of the approval that is open now.

    Raises `Conflict` where there is no person to ask, and beyond the limits.
    """
    place = _place(tx, session)
    deciders = [user for user in users.deciders(tx, "admin", [group.id]) if user.channel != TERMINAL_CHANNEL]
    is_at_terminal = place is not None and place.channel_type == TERMINAL_CHANNEL
    if not deciders and not is_at_terminal:
        raise Conflict(
            "this needs a yes, and there is no person to ask: no owner or admin of this agent is known in a chat",
            hint="the operator types `dumbwaiter role grant USER owner`",
        )
    known = table.open_for(tx, kind.name, subject)
    if known is None and not rate_limits.take(tx, Act.APPROVALS, group.name).allowed:
        raise Conflict(
            f"{group.name} has asked people {rate_limits.PER_HOUR[Act.APPROVALS]} times in this hour already"
        )
    opened = rules.ask(tx, kind, subject, about, agent_groups=[group.id], place=place)
    if opened is None:
        raise Conflict("too many requests wait for a decision already")
    return opened.approval.code, opened.approval.id


def _place(connection: Queryable, session: Session) -> Address | None:
    """The chat of the person with whom the conversation, or the one that asked it, is."""
    seen: set[str] = set()
    current: Session | None = session
    while current is not None and current.id not in seen:
        seen.add(current.id)
        address = ingest.last_address(connection, current.id)
        if address is None or address.channel_type == NO_CHAT:
            return None
        if address.channel_type != AGENT_CHANNEL:
            return address
        current = sessions.lookup(connection, address.platform_id)
    return None


def _is_fresh(moment: str | None, now: str) -> bool:
    return moment is not None and (from_text(now) - from_text(moment)).total_seconds() < _DENIAL_HOLDS
