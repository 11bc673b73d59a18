"""What agents have got added to their containers: packages, as layers on the image of their agent group, and folders.

A change waits, is built where it is about packages, is made (the agent group has it), and is ready when the containers
are replaced and the agent is told. Each step is the ledger's first, so a host that dies goes on with it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from host.central.database import Effect, Queryable, Transaction, one
from shared_schema import json_text
from shared_schema.dataclass import dataclass
from shared_schema.packages import Packages
from shared_schema.rows import Row

INSERT = """
INSERT INTO container_changes (agent_group_id, session_id, kind, asked, state, created_at)
VALUES (:agent_group_id, :session_id, :kind, :asked, 'waiting', :now)
"""
BY_NUMBER = "SELECT * FROM container_changes WHERE number = ?"
# The condition of the partial index stands here word for word, or SQLite does not take it.
OPEN = """
SELECT * FROM container_changes INDEXED BY container_changes_open
WHERE state IN ('waiting', 'building', 'made') ORDER BY number LIMIT 200
"""
OPEN_OF = """
SELECT count(*) AS n FROM container_changes WHERE agent_group_id = ? AND state IN ('waiting', 'building')
"""
HISTORY = """
SELECT * FROM container_changes WHERE agent_group_id = ? AND kind = 'packages' ORDER BY number DESC LIMIT ?
"""
BUILDING = "UPDATE container_changes SET state = 'building', packages = ?, base = ? WHERE number = ?"
BUILT = """
UPDATE container_changes SET state = 'made', image = :image, base_id = :base_id, log = :log WHERE number = :number
"""
MADE = "UPDATE container_changes SET state = 'made' WHERE number = ?"
READY = "UPDATE container_changes SET state = 'ready', finished_at = ? WHERE number = ?"
FAILED = """
UPDATE container_changes SET state = 'failed', why = :why, log = :log, finished_at = :now WHERE number = :number
"""
SET_LAYER = "UPDATE agent_groups SET layer = ?, layer_image = ? WHERE id = ?"
FORGET_IMAGE = "UPDATE container_changes SET image = NULL WHERE number = ?"
LAYERS = """
SELECT c.* FROM agent_groups g JOIN container_changes c ON c.number = g.layer ORDER BY g.name
"""
IMAGES = "SELECT image FROM container_changes WHERE image IS NOT NULL"
# Images beyond the newest so many of an agent group; never the one in use.
OLD_IMAGES = """
SELECT * FROM (
    SELECT c.*, row_number() OVER (PARTITION BY agent_group_id ORDER BY number DESC) AS place
    FROM container_changes c WHERE image IS NOT NULL AND state = 'ready'
) WHERE place > ? AND number NOT IN (SELECT layer FROM agent_groups WHERE layer IS NOT NULL)
"""


class ChangeKind(StrEnum):
    PACKAGES = "packages"
    MOUNT = "mount"


class ChangeState(StrEnum):
    WAITING = "waiting"
    BUILDING = "building"
    MADE = "made"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ContainerWaits(Effect):
    """A change of containers is to be made."""


@dataclass(frozen=True, slots=True)
class ContainerChange(Row):
    """One change. `asked` and `packages` are JSON; `image` is None when it was removed to save room."""

    number: int
    agent_group_id: str
    session_id: str | None
    kind: str
    asked: str
    state: str
    packages: str | None
    base: str | None
    base_id: str | None
    image: str | None
    log: str | None
    why: str | None
    created_at: str
    finished_at: str | None

    @property
    def wanted(self) -> dict[str, Any]:
        """What is to be added."""
        found: dict[str, Any] = json_text.parse(self.asked)
        return found

    @property
    def all_packages(self) -> Packages:
        """All that the layer has."""
        return Packages() if self.packages is None else Packages.from_json(json_text.parse(self.packages))


def add(
    tx: Transaction, agent_group_id: str, session_id: str | None, kind: ChangeKind, asked: Mapping[str, Any]
) -> None:
    """Have something added to the containers of an agent group."""
    values = {"agent_group_id": agent_group_id, "session_id": session_id, "kind": kind, "now": tx.now}
    tx.execute(INSERT, values | {"asked": json.dumps(dict(asked))})
    tx.add(ContainerWaits())


def get(connection: Queryable, number: int) -> ContainerChange | None:
    """The change with that number."""
    row = one(connection, BY_NUMBER, (number,))
    return None if row is None else ContainerChange.from_row(row)


def all_open(connection: Queryable) -> list[ContainerChange]:
    """Changes that are not ready, the oldest first."""
    return [ContainerChange.from_row(row) for row in connection.execute(OPEN)]


def open_count(connection: Queryable, agent_group_id: str) -> int:
    """How many changes of an agent group wait or are built."""
    row = one(connection, OPEN_OF, (agent_group_id,))
    return 0 if row is None else int(row["n"])


def history(connection: Queryable, agent_group_id: str, limit: int = 50) -> list[ContainerChange]:
    """The layers of an agent group, the newest first."""
    return [ContainerChange.from_row(row) for row in connection.execute(HISTORY, (agent_group_id, limit))]


def building(tx: Transaction, number: int, packages: Packages, base: str) -> None:
    """Note what is being built."""
    tx.execute(BUILDING, (json.dumps(packages.as_json()), base, number))


def built(tx: Transaction, change: ContainerChange, image: str, base_id: str, log: str) -> None:
    """The layer is there, and its agent group has it."""
    tx.execute(BUILT, {"image": image, "base_id": base_id, "log": log, "number": change.number})
    set_layer(tx, change.agent_group_id, change.number, image)


def made(tx: Transaction, number: int) -> None:
    """The agent group has what was asked for."""
    tx.execute(MADE, (number,))


def ready(tx: Transaction, number: int) -> None:
    """The containers have it, and the agent was told."""
    tx.execute(READY, (tx.now, number))


def failed(tx: Transaction, number: int, why: str, log: str | None) -> None:
    """It cannot be done; the agent group stays as it was."""
    tx.execute(FAILED, {"why": why, "log": log, "now": tx.now, "number": number})


def set_layer(tx: Transaction, agent_group_id: str, number: int | None, image: str | None) -> None:
    """Give an agent group the image of a change, or the plain one."""
    tx.execute(SET_LAYER, (number, image, agent_group_id))


def layers(connection: Queryable) -> list[ContainerChange]:
    """The layers that are in use."""
    return [ContainerChange.from_row(row) for row in connection.execute(LAYERS)]


def images(connection: Queryable) -> set[str]:
    """The names of all images that are kept."""
    return {row["image"] for row in connection.execute(IMAGES)}


def old_images(connection: Queryable, kept: int) -> list[ContainerChange]:
    """Layers whose images are not needed any more: beyond the newest so many of each agent group, and not in use."""
    rows: list[sqlite3.Row] = connection.execute(OLD_IMAGES, (kept,)).fetchall()
    return [ContainerChange.from_row(row) for row in rows]


def forget_image(tx: Transaction, number: int) -> None:
    """The image of a layer was removed."""
    tx.execute(FORGET_IMAGE, (number,))
