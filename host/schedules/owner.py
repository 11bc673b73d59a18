"""Telling the owner of a schedule something: who made it, or (an agent made it) those who decide about the agent."""

from __future__ import annotations

from host.central import host_messages, users
from host.central.database import Queryable, Transaction
from host.central.messaging_groups import TERMINAL_CHANNEL
from host.central.schedules import Schedule
from host.schedules.quiet import held_for_user

TERMINAL = "cli:terminal"
BY_AGENT = "@"
"""Before the name of an agent group that has made a schedule by itself."""


def tell(tx: Transaction, schedule: Schedule, key: str, text: str, now: str) -> None:
    """Say something to the owner of a schedule, once for each `key`, wherever they can be reached."""
    found = [] if schedule.created_by.startswith(BY_AGENT) else _users(tx, schedule.created_by)
    if not found and schedule.created_by != TERMINAL:
        found = [
            user for user in users.deciders(tx, "admin", [schedule.agent_group_id]) if user.channel != TERMINAL_CHANNEL
        ]
    for user in found:
        host_messages.say(
            tx,
            f"schedule/{schedule.id}/{key}/{user.id}",
            user.channel,
            user.direct_chat,
            text,
            to_user=user.id,
            not_before=None if schedule.urgent else held_for_user(tx, user.id, now),
        )
    if not found:
        channel, _, platform_id = TERMINAL.partition(":")
        host_messages.say(tx, f"schedule/{schedule.id}/{key}/{TERMINAL}", channel, platform_id, text)


def _users(connection: Queryable, user: str) -> list[users.User]:
    if user == TERMINAL:
        return []
    found = users.find(connection, user)
    return [] if found is None else [found]
