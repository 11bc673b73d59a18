"""Users, the people they belong to, and the roles of these people.

A user is `<channel>:<handle>`; several users may be one person, and a role belongs to the person. A role is of one
agent group, or of all (`agent_group_id` None); an owner is one of all.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from host.central.database import Queryable, Transaction, one
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, InvalidValue, NotFound
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Row
from shared_schema.text import is_all_shown

STANDING = """
SELECT u.person_id, u.name, u.direct_chat, r.role, r.agent_group_id
FROM users u LEFT JOIN user_roles r ON r.person_id = u.person_id WHERE u.id = ?
"""
BY_ID = "SELECT * FROM users WHERE id = ?"
ALL = "SELECT * FROM users ORDER BY id LIMIT ?"
OF_PERSON = "SELECT * FROM users WHERE person_id = ? ORDER BY id"
INSERT_PERSON = "INSERT INTO people (id, name, created_at) VALUES (?, ?, ?)"
INSERT = "INSERT INTO users (id, person_id, name, created_at) VALUES (?, ?, ?, ?)"
RENAME = "UPDATE users SET name = ? WHERE id = ?"
SEEN = "UPDATE users SET direct_chat = coalesce(?, direct_chat), name = coalesce(?, name) WHERE id = ?"
MOVE = "UPDATE users SET person_id = ? WHERE id = ?"
MOVE_ROLES = """
INSERT INTO user_roles (person_id, role, agent_group_id, granted_at)
SELECT :to, role, agent_group_id, granted_at FROM user_roles WHERE person_id = :from ON CONFLICT DO NOTHING
"""
DELETE = "DELETE FROM users WHERE id = ?"
DELETE_PEOPLE = "DELETE FROM people WHERE id = ? AND NOT EXISTS (SELECT 1 FROM users WHERE person_id = people.id)"
PERSON = "SELECT * FROM people WHERE id = ?"
GRANT = """
INSERT INTO user_roles (person_id, role, agent_group_id, granted_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
REVOKE = "DELETE FROM user_roles WHERE person_id = ? AND role = ? AND agent_group_id IS ?"
ROLES_OF = """
SELECT r.role, r.agent_group_id, a.name AS agent_group, r.granted_at
FROM user_roles r LEFT JOIN agent_groups a ON a.id = r.agent_group_id
WHERE r.person_id = ? ORDER BY r.role = 'owner' DESC, r.role, a.name
"""
ROLES = """
SELECT r.role, a.name AS agent_group, p.id AS person, p.name,
    (SELECT group_concat(id, ' ') FROM (SELECT id FROM users WHERE person_id = p.id ORDER BY id)) AS users, r.granted_at
FROM user_roles r JOIN people p ON p.id = r.person_id LEFT JOIN agent_groups a ON a.id = r.agent_group_id
WHERE (:role IS NULL OR r.role = :role) AND (:agent_group_id IS NULL OR r.agent_group_id IS :agent_group_id)
ORDER BY CASE r.role WHEN 'owner' THEN 0 WHEN 'admin' THEN 1 ELSE 2 END, a.name, users LIMIT :limit
"""
HAS_OWNER = "SELECT 1 FROM user_roles WHERE role = 'owner' LIMIT 1"
OWNERS = "SELECT count(*) AS n FROM user_roles WHERE role = 'owner'"
DECIDERS = """
SELECT DISTINCT u.* FROM user_roles r JOIN users u ON u.person_id = r.person_id
WHERE r.role = 'owner' OR (r.role = 'admin' AND :role = 'admin' AND (r.agent_group_id IS NULL
    OR r.agent_group_id IN (SELECT value FROM json_each(:agent_groups))))
ORDER BY u.created_at, u.id LIMIT 100
"""

_LONGEST = 300


class Role(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"


@dataclass(frozen=True, slots=True)
class User(Row):
    """One account on one platform. `direct_chat` is the platform id of its direct chat with the bot, once known."""

    id: str
    person_id: str
    name: str | None
    direct_chat: str | None
    created_at: str

    @property
    def channel(self) -> str:
        """The name of its channel."""
        return self.id.partition(":")[0]

    @property
    def handle(self) -> str:
        """How the platform names it."""
        return self.id.partition(":")[2]


def user_id(channel: str, handle: str) -> str:
    """`<channel>:<handle>`."""
    return f"{channel}:{handle}"


def valid_id(text: str) -> str:
    """`text`, if it names a user. Raises `InvalidValue`."""
    channel, colon, handle = text.partition(":")
    if not (channel and colon and handle) or len(text) > _LONGEST or not is_all_shown(text) or " " in channel:
        raise InvalidValue(f"'{text[:80]}' does not name a user: write <channel>:<handle>, such as telegram:12345")
    return text


def standing_rows(connection: Queryable, user: str) -> list[sqlite3.Row]:
    """`person_id, name, direct_chat, role, agent_group_id`: a row for each role; one with role None without any."""
    return connection.execute(STANDING, (user,)).fetchall()


def find(connection: Queryable, user: str) -> User | None:
    """A user, if it is known."""
    row = one(connection, BY_ID, (user,))
    return None if row is None else User.from_row(row)


def get(connection: Queryable, user: str) -> User:
    """A user. Raises `InvalidValue`, `NotFound`."""
    found = find(connection, valid_id(user))
    if found is None:
        raise NotFound(f"there is no user {user}", hint=f"add it with `dumbwaiter user add {user}`")
    return found


def ensure(tx: Transaction, user: str, name: str | None) -> User:
    """A user, added as a person of its own when it is not known. Raises `InvalidValue`."""
    found = find(tx, valid_id(user))
    if found is None:
        person = new_id(Prefix.PERSON)
        tx.execute(INSERT_PERSON, (person, name, tx.now))
        tx.execute(INSERT, (user, person, name, tx.now))
        found = get(tx, user)
    return found


def rename(tx: Transaction, user: str, name: str | None) -> None:
    """Give a user another name."""
    tx.execute(RENAME, (name, user))


def seen(tx: Transaction, user: str, direct_chat: str | None, name: str | None) -> None:
    """Note where a user can be reached, and how the platform calls them. None changes nothing."""
    tx.execute(SEEN, (direct_chat, name, user))


def link(tx: Transaction, user: User, to: User) -> None:
    """Make a user the same person as another one; that person has the roles of both."""
    if user.person_id == to.person_id:
        raise Conflict(f"{user.id} and {to.id} are one person already")
    tx.execute(MOVE, (to.person_id, user.id))
    if not of_person(tx, user.person_id):  # the last one: nothing is lost with the old person
        tx.execute(MOVE_ROLES, {"from": user.person_id, "to": to.person_id})
    tx.execute(DELETE_PEOPLE, (user.person_id,))


def unlink(tx: Transaction, user: User) -> None:
    """Make a user a person of its own, without roles. Raises `Conflict` when it is one."""
    if len(of_person(tx, user.person_id)) < 2:
        raise Conflict(f"{user.id} is a person of its own already")
    person = new_id(Prefix.PERSON)
    tx.execute(INSERT_PERSON, (person, user.name, tx.now))
    tx.execute(MOVE, (person, user.id))


def remove(tx: Transaction, user: User) -> None:
    """Forget a user; with the last one of a person, the person and their roles."""
    tx.execute(DELETE, (user.id,))
    tx.execute(DELETE_PEOPLE, (user.person_id,))


def of_person(connection: Queryable, person_id: str) -> list[User]:
    """The users of one person."""
    return [User.from_row(row) for row in connection.execute(OF_PERSON, (person_id,))]


def all_users(connection: Queryable, limit: int = 1000) -> list[User]:
    """Users, by id."""
    return [User.from_row(row) for row in connection.execute(ALL, (limit,))]


def grant(tx: Transaction, person_id: str, role: Role, agent_group_id: str | None) -> bool:
    """Give a person a role. False when they have it already."""
    return tx.execute(GRANT, (person_id, role, agent_group_id, tx.now)).rowcount > 0


def revoke(tx: Transaction, person_id: str, role: Role, agent_group_id: str | None) -> bool:
    """Take a role away. False when they do not have it."""
    return tx.execute(REVOKE, (person_id, role, agent_group_id)).rowcount > 0


def roles_of(connection: Queryable, person_id: str) -> list[sqlite3.Row]:
    """`role, agent_group_id, agent_group, granted_at` of one person."""
    return connection.execute(ROLES_OF, (person_id,)).fetchall()


def roles(
    connection: Queryable, role: Role | None = None, agent_group_id: str | None = None, limit: int = 1000
) -> list[dict[str, Any]]:
    """All roles with the people who have them: `role, agent_group, person, name, users, granted_at`."""
    values = {"role": role, "agent_group_id": agent_group_id, "limit": limit}
    rows = connection.execute(ROLES, values).fetchall()
    return [dict(row) | {"users": (row["users"] or "").split(" ") if row["users"] else []} for row in rows]


def has_owner(connection: Queryable) -> bool:
    """Whether a person on a platform is an owner. The person at the host's terminal is one anyway."""
    return one(connection, HAS_OWNER) is not None


def owner_count(connection: Queryable) -> int:
    """How many people are owners."""
    row = one(connection, OWNERS)
    return 0 if row is None else int(row["n"])


def deciders(connection: Queryable, role: str, agent_groups: Sequence[str] | None) -> list[User]:
    """The users of all who may decide: owners, and for `role` admin the admins of all or of one of the groups."""
    values = {"role": role, "agent_groups": json.dumps(list(agent_groups or ()))}
    return [User.from_row(row) for row in connection.execute(DECIDERS, values)]
