"""What a person can do about wirings: which agent group serves which chat."""

from __future__ import annotations

from typing import Any

from host.central import agent_groups, audit, messaging_groups
from host.central.database import Transaction
from host.central.messaging_groups import (
    AgentReplies,
    Archived,
    Engage,
    NonEngaging,
    SenderScope,
    SessionMode,
    ShownProgress,
    Wiring,
)
from host.operations.push import push_to_agent_group
from host.routing.engage import valid_pattern
from host.services import Services
from host.sessions.reset import Reset
from shared_schema.clock import to_text
from shared_schema.errors import InvalidValue, NotFound
from shared_schema.ids import Prefix, new_id

_YEARS = 10 * 366 * 24 * 60
_PRIORITIES = 1_000


async def add(
    services: Services,
    *,
    messaging_group: str,
    agent_group: str,
    session_mode: str = SessionMode.SHARED,
    per_user: bool = False,
    engage: str = Engage.ALL,
    pattern: str | None = None,
    reset: str = Reset.NONE,
    reset_minutes: int = 1440,
    reset_hour: int = 4,
    archived: str = Archived.REFUSE,
    sender_scope: str = SenderScope.ALL,
    non_engaging: str = NonEngaging.DROP,
    priority: int = 0,
    agent_replies: str = AgentReplies.IGNORE,
    progress: str = ShownProgress.TYPING,
) -> dict[str, Any]:
    """Wire a chat to an agent group, or change the wiring. Raises `InvalidValue`, `NotFound`."""
    for what, value, known in (
        ("reset rule", reset, Reset),
        ("rule for archived sessions", archived, Archived),
        ("sender scope", sender_scope, SenderScope),
        ("rule for messages that do not engage", non_engaging, NonEngaging),
        ("rule for replies of other agents", agent_replies, AgentReplies),
        ("sign of work", progress, ShownProgress),
    ):
        if value not in set(known):
            raise InvalidValue(f"'{value}' is not a {what}", hint=f"use one of {', '.join(known)}")
    if not 1 <= reset_minutes <= _YEARS:
        raise InvalidValue(f"a conversation can rest for 1 to {_YEARS} minutes, not {reset_minutes}")
    if not 0 <= reset_hour <= 23:
        raise InvalidValue(f"the hour of a reset is 0 to 23, not {reset_hour}")
    if not -_PRIORITIES <= priority <= _PRIORITIES:
        raise InvalidValue(f"a priority is -{_PRIORITIES} to {_PRIORITIES}, not {priority}")
    if session_mode not in set(SessionMode):
        raise InvalidValue(f"'{session_mode}' is not a session mode", hint=f"use one of {', '.join(SessionMode)}")
    if engage not in set(Engage):
        raise InvalidValue(f"'{engage}' is not an engage rule", hint=f"use one of {', '.join(Engage)}")
    if (engage == Engage.PATTERN) != (pattern is not None):
        raise InvalidValue(
            "a pattern goes with the engage rule 'pattern', and only with it",
            hint="write `--engage pattern --pattern RE`",
        )
    if pattern is not None:
        valid_pattern(pattern)
    now = to_text(services.clock.now())

    def store(tx: Transaction) -> str:
        group = agent_groups.get_by_name(tx, agent_group)
        chat = messaging_groups.get_by_name(tx, messaging_group)
        before = messaging_groups.wiring_of(tx, chat.id, group.id)
        wiring = Wiring(
            id=new_id(Prefix.WIRING),
            messaging_group_id=chat.id,
            agent_group_id=group.id,
            session_mode=session_mode,
            per_user=int(per_user),
            engage=Engage.MENTION if engage == Engage.MENTION_STICKY else engage,
            sticky=int(engage == Engage.MENTION_STICKY),
            pattern=pattern,
            reset=reset,
            reset_minutes=reset_minutes,
            reset_hour=reset_hour,
            archived=archived,
            created_at=now,
            sender_scope=sender_scope,
            non_engaging=non_engaging,
            priority=priority,
            agent_replies=agent_replies,
            progress=progress,
        )
        messaging_groups.wire(tx, wiring)
        audit.record(
            tx,
            "wiring.add" if before is None else "wiring.set",
            f"{chat.address} {group.name}",
            before=None if before is None else _audited(before),
            after=_audited(wiring),
        )
        return group.id

    await push_to_agent_group(services, await services.central.write(store))
    for wiring in await list_all(services):
        if wiring["messaging_group"] == messaging_group and wiring["agent_group"] == agent_group:
            return wiring
    raise NotFound(
        f"the wiring of {messaging_group} to {agent_group} was removed meanwhile", hint="`dumbwaiter wirings`"
    )


async def list_all(services: Services, *, search: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
    """All wirings, by chat; the first `limit` of them, or those in whose chat or agent `search` stands."""
    most = None if limit is None else max(0, limit)
    return await services.central.read(messaging_groups.wirings_shown, search, most)


async def remove(services: Services, *, messaging_group: str, agent_group: str) -> dict[str, Any]:
    """Remove a wiring. Its sessions stay, and take nothing new from that chat. Raises `NotFound`."""

    def drop(tx: Transaction) -> str:
        chat, group = (
            messaging_groups.get_by_name(tx, messaging_group),
            agent_groups.get_by_name(tx, agent_group),
        )
        before = messaging_groups.wiring_of(tx, chat.id, group.id)
        if before is None or not messaging_groups.unwire(tx, chat.id, group.id):
            raise NotFound(f"{messaging_group} is not wired to {agent_group}", hint="`dumbwaiter wirings` shows all")
        audit.record(tx, "wiring.remove", f"{chat.address} {group.name}", before=_audited(before))
        return group.id

    await push_to_agent_group(services, await services.central.write(drop))
    return {"removed": True}


def _audited(wiring: Wiring) -> dict[str, Any]:
    own = ("id", "messaging_group_id", "agent_group_id", "created_at", "sticky")
    state = {name: getattr(wiring, name) for name in Wiring.__slots__ if name not in own}
    return state | {"engage": wiring.rule}
