"""Whether an agent saves to its memory what is worth it before a conversation is over: one quiet turn."""

from __future__ import annotations

from host.central import agent_groups, control_tasks, exchanges, usage
from host.central.agent_groups import AgentGroup
from host.central.database import Transaction
from host.central.sessions import Session
from shared_schema.providers import REMEMBERERS
from shared_schema.rows import ControlTask

MIN_EXCHANGES = 4
"""What is shorter is rarely worth a model's calls."""


def may_save(group: AgentGroup, *, setting: bool) -> bool:
    """Whether an agent group saves memory: as it says itself, or as the setting says."""
    wanted = setting if group.save_memory is None else bool(group.save_memory)
    return wanted and group.provider in REMEMBERERS


def ask_to_save(tx: Transaction, session: Session, *, setting: bool) -> None:
    """Ask the agent of a session that is just over, where enough was said in it and there is budget left."""
    group = agent_groups.by_id(tx, session.agent_group_id)
    if group is None or not may_save(group, setting=setting):
        return
    if exchanges.last(tx, session.id, MIN_EXCHANGES).count < MIN_EXCHANGES:
        return
    if usage.exhausted(tx, session.agent_group_id, tx.now) is None:
        control_tasks.ask(tx, session, ControlTask.REMEMBER)
