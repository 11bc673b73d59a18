"""Agent groups, and the destinations they may send to."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from host.central import agent_links
from host.central.database import Effect, Queryable, Transaction, one
from host.similar import did_you_mean
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, InvalidValue, NotFound
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Destination, DestinationType, Row

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

RENAME = "UPDATE agent_groups SET name = ? WHERE id = ?"
FOLDER = "SELECT 1 FROM agent_groups WHERE folder = ?"
DELETE = "DELETE FROM agent_groups WHERE id = ?"
BY_NAME = "SELECT * FROM agent_groups WHERE name = ?"
BY_ID = "SELECT * FROM agent_groups WHERE id = ?"
ALL = "SELECT * FROM agent_groups ORDER BY name"

INSERT_DESTINATION = """
INSERT INTO agent_destinations (agent_group_id, name, messaging_group_id, created_at) VALUES (?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
HAS_DESTINATION = "SELECT 1 FROM agent_destinations WHERE agent_group_id = ? AND name = ?"
DELETE_DESTINATION = "DELETE FROM agent_destinations WHERE agent_group_id = ? AND name = ?"
DESTINATIONS = """
SELECT d.name, m.name AS display_name, m.channel_type, m.platform_id
FROM agent_destinations d JOIN messaging_groups m ON m.id = d.messaging_group_id
WHERE d.agent_group_id = ? ORDER BY d.name
"""


@dataclass(frozen=True, slots=True)
class AgentGroupChanged(Effect):
    """What the agents of a group are told of their chats has changed."""

    agent_group_id: str


@dataclass(frozen=True, slots=True)
class AgentGroup(Row):
    """One agent. `mounts` is a JSON list of `{"path", "name", "writable"}`; None for a limit means the setting.

    `tool_servers` is a JSON object of MCP servers (docs/tools.md), `save_memory` whether it may save to memory what is
    worth it before a conversation is over; None means the setting. `fallbacks` is a JSON list of the models that answer
    in place of `model` when its service refuses, `policies` a JSON object of acts, `ask_before` a JSON list of rules.
    `instructions` are what its `AGENT.md` says when its workspace is made. `layer_image` is what its containers have in
    place of the image, with packages that were installed for it, and `layer` the change that made it. `node_labels` is
    a JSON object: what a node must have for its agents to run there. `gpus` None: none.

    `schedules` says whether it may make schedules by itself: `allow`, `ask` (its admins decide) or `deny`.

    A budget is what it may use in each period (`day`, `month` or `total`), in US dollars and in tokens; None: no limit.
    """

    id: str
    name: str
    folder: str
    provider: str
    model: str | None
    image: str | None
    memory_bytes: int | None
    cpus: float | None
    pids: int | None
    mounts: str
    created_at: str
    budget_usd: float | None = None
    budget_tokens: int | None = None
    budget_period: str = "month"
    allow: str = "[]"
    tool_servers: str | None = None
    save_memory: int | None = None
    schedules: str = "ask"
    fallbacks: str = "[]"
    policies: str = "{}"
    ask_before: str = "[]"
    instructions: str | None = None
    layer: int | None = None
    layer_image: str | None = None
    node_labels: str = "{}"
    gpus: int | None = None

    @property
    def has_budget(self) -> bool:
        """Whether there is a limit to what it may use."""
        return self.budget_usd is not None or self.budget_tokens is not None

    @property
    def allowed_hosts(self) -> list[str]:
        """The hosts its agents may reach; entries of an allow-list (docs/gateway.md)."""
        entries: list[str] = json.loads(self.allow)
        return entries

    @property
    def fallback_models(self) -> list[str]:
        """The models that answer in place of its own, in order."""
        models: list[str] = json.loads(self.fallbacks)
        return models

    @property
    def wanted_labels(self) -> dict[str, str]:
        """What a node must have for its agents to run there."""
        labels: dict[str, str] = json.loads(self.node_labels)
        return labels

    @property
    def policy_of_acts(self) -> dict[str, str]:
        """What the operator has said of acts (`host/access/policies.py`)."""
        said: dict[str, str] = json.loads(self.policies)
        return said

    @property
    def rules_to_ask(self) -> list[str]:
        """Which calls of tools wait for a yes (`shared_schema/asking.py`)."""
        rules: list[str] = json.loads(self.ask_before)
        return rules

    @property
    def mount_requests(self) -> list[dict[str, Any]]:
        """The extra folders this agent group asks for; checked against the allow-list at every start."""
        requests: list[dict[str, Any]] = json.loads(self.mounts)
        return requests


# Every field is a column. A layer is set by `container_changes` alone: an agent that is made like another has none yet.
_COLUMNS = tuple(name for name in AgentGroup.__match_args__ if name not in ("layer", "layer_image"))
_FIXED = ("id", "name", "folder", "created_at", "instructions")
_CHANGEABLE = tuple(name for name in _COLUMNS if name not in _FIXED)
INSERT = f"INSERT INTO agent_groups ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"
# With another budget people are warned anew.
UPDATE = f"""
UPDATE agent_groups SET {", ".join(f"{name} = :{name}" for name in _CHANGEABLE)},
    budget_warned = CASE WHEN budget_usd IS :budget_usd AND budget_tokens IS :budget_tokens
        AND budget_period = :budget_period THEN budget_warned END
WHERE id = :id
"""


def valid_name(name: str) -> str:
    """`name`, if it can name an agent group (and its folder). Raises `InvalidValue`."""
    if NAME.fullmatch(name) is None:
        raise InvalidValue(
            f"'{name}' cannot be a name: use small letters, digits, '-' and '_', at most 63, beginning with no sign"
        )
    return name


def insert(tx: Transaction, group: AgentGroup) -> None:
    """Add an agent group. Raises `Conflict` for a name that is taken."""
    if one(tx, BY_NAME, (valid_name(group.name),)) is not None:
        change = f"`dumbwaiter agent-group set {group.name}` changes that one"
        raise Conflict(f"there is an agent group '{group.name}' already", hint=f"choose another name; {change}")
    # One that was renamed keeps its folder, and its old name is free.
    folders = (group.folder, *(f"{group.folder[:58]}-{number}" for number in range(2, 1000)))
    folder = next(each for each in folders if one(tx, FOLDER, (each,)) is None)
    tx.execute(INSERT, _columns(replace(group, folder=folder)))


def update(tx: Transaction, group: AgentGroup) -> None:
    """Store what can be changed of an agent group."""
    tx.execute(UPDATE, _columns(group))


def rename(tx: Transaction, agent_group_id: str, name: str) -> None:
    """Give an agent group another name. Raises `InvalidValue`, and `Conflict` for a name that is taken."""
    found = one(tx, BY_NAME, (valid_name(name),))
    if found is not None and found["id"] != agent_group_id:
        raise Conflict(f"there is an agent group '{name}' already", hint="choose another name")
    tx.execute(RENAME, (name, agent_group_id))


def delete(tx: Transaction, agent_group_id: str) -> None:
    """Remove an agent group with its wirings, routes and destinations. Its sessions must be gone."""
    tx.execute(DELETE, (agent_group_id,))


def get_by_name(connection: Queryable, name: str) -> AgentGroup:
    """The agent group of that name. Raises `NotFound`."""
    row = one(connection, BY_NAME, (name,))
    if row is None:
        meant = did_you_mean(name, (group.name for group in all_groups(connection)))
        raise NotFound(f"there is no agent group '{name}'{meant}", hint="`dumbwaiter agent-group list` shows all")
    return AgentGroup.from_row(row)


def find(connection: Queryable, name: str) -> AgentGroup | None:
    """The agent group of that name, if there is one."""
    row = one(connection, BY_NAME, (name,))
    return None if row is None else AgentGroup.from_row(row)


def has_destination(connection: Queryable, agent_group_id: str, name: str) -> bool:
    """Whether an agent group calls a chat or an agent by that name."""
    is_chat = connection.execute(HAS_DESTINATION, (agent_group_id, name)).fetchone() is not None
    return is_chat or agent_links.is_named(connection, agent_group_id, name)


def by_id(connection: Queryable, agent_group_id: str) -> AgentGroup | None:
    """The agent group with that id, if there is one."""
    row = one(connection, BY_ID, (agent_group_id,))
    return None if row is None else AgentGroup.from_row(row)


def all_groups(connection: Queryable) -> list[AgentGroup]:
    """All agent groups, by name."""
    return [AgentGroup.from_row(row) for row in connection.execute(ALL)]


def new_agent_group(
    name: str, *, created_at: str, provider: str, model: str | None = None, fallbacks: Sequence[str] = ()
) -> AgentGroup:
    """An agent group with the usual settings, not yet stored."""
    return AgentGroup(
        id=new_id(Prefix.AGENT_GROUP),
        name=valid_name(name),
        folder=name,
        provider=provider,
        model=model,
        image=None,
        memory_bytes=None,
        cpus=None,
        pids=None,
        mounts="[]",
        created_at=created_at,
        fallbacks=json.dumps(list(fallbacks)),
    )


def add_destination(tx: Transaction, agent_group_id: str, name: str, messaging_group_id: str, created_at: str) -> None:
    """Allow an agent group to send to a messaging group under a name. Raises `Conflict` for a name that is taken."""
    _require_free(tx, agent_group_id, name)
    if not tx.execute(INSERT_DESTINATION, (agent_group_id, valid_name(name), messaging_group_id, created_at)).rowcount:
        raise _taken(name)


def add_link(tx: Transaction, group: AgentGroup, name: str, target: AgentGroup) -> None:
    """Allow an agent group to write to another one under a name. Raises `Conflict`, `InvalidValue`."""
    if group.id == target.id:
        raise InvalidValue(f"'{group.name}' cannot write to itself", hint="name another agent group")
    is_taken = tx.execute(HAS_DESTINATION, (group.id, valid_name(name))).fetchone() is not None
    if is_taken or not agent_links.add(tx, group.id, name, target.id, tx.now):
        raise _taken(name)


def _require_free(connection: Queryable, agent_group_id: str, name: str) -> None:
    if agent_links.is_named(connection, agent_group_id, name):
        raise _taken(name)


def _taken(name: str) -> Conflict:
    return Conflict(f"there is a destination '{name}' already", hint="remove it first, or choose another name")


def remove_destination(tx: Transaction, agent_group_id: str, name: str) -> None:
    """Take a destination away. Raises `NotFound`."""
    is_chat = tx.execute(DELETE_DESTINATION, (agent_group_id, name)).rowcount > 0
    if not is_chat and not agent_links.remove(tx, agent_group_id, name):
        raise NotFound(f"there is no destination '{name}'", hint="`dumbwaiter destination list` shows all")


def destinations(connection: Queryable, agent_group_id: str) -> list[Destination]:
    """Where an agent group may send, by name: the rows of `inbound.db: destinations`."""
    chats = [
        Destination(
            name=row["name"],
            display_name=row["display_name"],
            type=DestinationType.MESSAGING_GROUP,
            channel_type=row["channel_type"],
            platform_id=row["platform_id"],
            agent_group_id=None,
        )
        for row in connection.execute(DESTINATIONS, (agent_group_id,))
    ]
    return sorted([*chats, *agent_links.of(connection, agent_group_id)], key=lambda each: each.name)


def _columns(group: AgentGroup) -> dict[str, object]:
    return {name: getattr(group, name) for name in _COLUMNS}
