"""Agent groups in central.db: every field is a column, and what may be changed is stored."""

from __future__ import annotations

from dataclasses import replace

from host.central import agent_groups
from host.central.agent_groups import AgentGroup, new_agent_group
from host.central.database import Transaction
from tests.unit.registry import NOW

EVERY = AgentGroup(
    id="agr_1", name="assistant", folder="assistant", provider="model", model="m", image="i", memory_bytes=1, cpus=2.0,
    pids=3, mounts='["a"]', created_at=NOW, budget_usd=4.0, budget_tokens=5, budget_period="day", allow='["b"]',
    tool_servers="{}", save_memory=1, schedules="deny", fallbacks='["c"]', policies='{"d": "ask"}', ask_before='["e"]',
    instructions="f", layer=6, layer_image="g", node_labels='{"h": "i"}', gpus=7,
)  # fmt: skip
"""No field of it has the value that it has by itself."""


def test_an_agent_group_is_stored_with_all_that_it_was_made_with_but_a_layer(registry: Transaction) -> None:
    agent_groups.insert(registry, EVERY)

    assert agent_groups.by_id(registry, EVERY.id) == replace(EVERY, layer=None, layer_image=None)


def test_a_change_is_stored_and_its_name_its_folder_and_its_beginning_stay(registry: Transaction) -> None:
    made = new_agent_group("helper", created_at=NOW, provider="echo")
    agent_groups.insert(registry, made)

    agent_groups.update(registry, replace(EVERY, id=made.id, created_at="later"))

    stays = {name: getattr(made, name) for name in ("id", "name", "folder", "created_at", "instructions")}
    assert agent_groups.by_id(registry, made.id) == replace(EVERY, **stays, layer=None, layer_image=None)


def test_no_field_is_left_out_above() -> None:
    usual = new_agent_group("helper", created_at="then", provider="echo")

    same = [name for name in AgentGroup.__match_args__ if getattr(EVERY, name) == getattr(usual, name)]

    assert same == [], "EVERY has a value of its own for each column, also for a new one"
