"""What a person can do about users and their roles."""

from __future__ import annotations

from typing import Any

from host.access import claim
from host.central import agent_groups, audit
from host.central import users as table
from host.central.database import Queryable, Transaction
from host.central.users import Role, User
from host.services import Services
from shared_schema.errors import Conflict, InvalidValue, NotFound
from shared_schema.text import one_line

_LONGEST_NAME = 100


async def add(services: Services, *, user: str, name: str | None = None, same_as: str | None = None) -> dict[str, Any]:
    """Make a user known, as a person of its own or as the same person as another user. Raises `Conflict`."""

    def store(tx: Transaction) -> None:
        if table.find(tx, table.valid_id(user)) is not None:
            raise Conflict(f"the user {user} is known already", hint=f"`dumbwaiter user show {user}` shows it")
        other = None if same_as is None else table.get(tx, same_as)
        added = table.ensure(tx, user, _name(name))
        if other is not None:
            table.link(tx, added, other)
        audit.record(tx, "user.add", user, after={"name": _name(name), "same_as": same_as})

    await services.central.write(store)
    return await show(services, user=user)


async def list_all(services: Services, *, limit: int = 1000) -> list[dict[str, Any]]:
    """Users with their roles, by id."""
    most = max(0, limit)
    return await services.central.read(lambda c: [_shown(c, each) for each in table.all_users(c, most)])


async def show(services: Services, *, user: str) -> dict[str, Any]:
    """One user, their roles, and the other users who are the same person. Raises `NotFound`."""
    return await services.central.read(lambda c: _shown(c, table.get(c, user)))


async def change(services: Services, *, user: str, name: str) -> dict[str, Any]:
    """Give a user another name; '' takes it away."""

    def store(tx: Transaction) -> None:
        found = table.get(tx, user)
        table.rename(tx, user, _name(name))
        audit.record(tx, "user.set", user, before={"name": found.name}, after={"name": _name(name)})

    await services.central.write(store)
    return await show(services, user=user)


async def link(services: Services, *, user: str, same_as: str) -> dict[str, Any]:
    """Say that two users are one person, who has the roles of both. A user that is not known yet is added."""

    def store(tx: Transaction) -> None:
        other = table.get(tx, same_as)
        found = table.ensure(tx, user, None)
        table.link(tx, found, other)
        audit.record(tx, "user.link", user, after={"same_as": same_as})

    await services.central.write(store)
    return await show(services, user=user)


async def unlink(services: Services, *, user: str) -> dict[str, Any]:
    """Make a user a person of its own, without roles. Raises `Conflict` when it is one."""

    def store(tx: Transaction) -> None:
        found = table.get(tx, user)
        table.unlink(tx, found)
        audit.record(tx, "user.unlink", user, before=_roles(tx, found))

    await services.central.write(store)
    return await show(services, user=user)


async def remove(services: Services, *, user: str) -> dict[str, Any]:
    """Forget a user; with the last one of a person, their roles. Raises `Conflict` for the last owner there is."""

    def drop(tx: Transaction) -> None:
        found = table.get(tx, user)
        before = _roles(tx, found)
        table.remove(tx, found)
        audit.record(tx, "user.remove", user, before={"name": found.name, **before})

    await services.central.write(drop)
    return {"removed": user}


async def claim_code(services: Services) -> dict[str, Any]:
    """The code with which the first owner is claimed: `{has_owner, code, expires_at, locked_until, sentence}`."""
    offered = await services.central.write(claim.offer)
    said = {
        "has_owner": offered is None,
        "code": None if offered is None else offered.code,
        "expires_at": None if offered is None else offered.expires_at,
        "locked_until": None if offered is None else offered.locked_until,
    }
    return said | {"sentence": claim_sentence(said)}


def claim_sentence(offer: dict[str, Any]) -> str:
    """What a person is told of the owner's code. Times are UTC."""
    if offer["has_owner"]:
        return (
            "There is an owner already: `dumbwaiter role list --role owner` shows who. If that is you, write /whoami "
            "to the new bot, and type `dumbwaiter user link NEW OLD`: what it calls you, and what you are called there."
        )
    if offer["code"] is None:
        return f"There were 5 wrong tries: no code is taken until {offer['locked_until'][11:16]} UTC."
    return f"Write {offer['code']} to the bot in a direct chat before {offer['expires_at'][11:16]} UTC to be the owner."


async def grant(services: Services, *, user: str, role: str, agent_group: str | None = None) -> dict[str, Any]:
    """Give the person of a user a role, of one agent group or of all; a user that is not known is added."""
    wanted = _role(role, agent_group)

    def store(tx: Transaction) -> None:
        found = table.ensure(tx, user, None)
        group = None if agent_group is None else agent_groups.get_by_name(tx, agent_group).id
        if not table.grant(tx, found.person_id, wanted, group):
            raise Conflict(f"{user} is {_spoken(wanted, agent_group)} already")
        audit.record(tx, _action(wanted, "grant"), user, after={"role": role, "agent_group": agent_group})

    await services.central.write(store)
    return await show(services, user=user)


async def revoke(services: Services, *, user: str, role: str, agent_group: str | None = None) -> dict[str, Any]:
    """Take a role away. Raises `NotFound` when the person does not have it."""
    wanted = _role(role, agent_group)

    def drop(tx: Transaction) -> None:
        found = table.get(tx, user)
        group = None if agent_group is None else agent_groups.get_by_name(tx, agent_group).id
        if not table.revoke(tx, found.person_id, wanted, group):
            raise NotFound(
                f"{user} is not {_spoken(wanted, agent_group)}", hint=f"`dumbwaiter user show {user}` shows the roles"
            )
        audit.record(tx, _action(wanted, "revoke"), user, before={"role": role, "agent_group": agent_group})

    await services.central.write(drop)
    return await show(services, user=user)


async def list_roles(
    services: Services, *, role: str | None = None, agent_group: str | None = None
) -> list[dict[str, Any]]:
    """Roles and who has them: owners first. All, or of one role, or of one agent group."""

    def load(connection: Queryable) -> list[dict[str, Any]]:
        group = None if agent_group is None else agent_groups.get_by_name(connection, agent_group).id
        return table.roles(connection, None if role is None else _role(role, None), group)

    return await services.central.read(load)


def _role(role: str, agent_group: str | None) -> Role:
    if role not in set(Role):
        raise InvalidValue(f"'{role}' is not a role", hint=f"use one of {', '.join(Role)}")
    if role == Role.OWNER and agent_group is not None:
        raise InvalidValue("an owner is one of everything, not of one agent group", hint="use the role admin")
    return Role(role)


def _action(role: Role, what: str) -> str:
    """What the audit log calls it: a member is added and removed, other roles are granted and revoked."""
    if role != Role.MEMBER:
        return f"role.{what}"
    return "member.add" if what == "grant" else "member.remove"


def _spoken(role: Role, agent_group: str | None) -> str:
    if role == Role.OWNER:
        return "an owner"
    return f"{'an' if role == Role.ADMIN else 'a'} {role} of {agent_group or 'all agents'}"


def _name(name: str | None) -> str | None:
    return (one_line(name, _LONGEST_NAME) or None) if name else None


def _roles(connection: Queryable, user: User) -> dict[str, Any]:
    roles = table.roles_of(connection, user.person_id)
    return {"roles": [_spoken(Role(row["role"]), row["agent_group"]) for row in roles]}


def _shown(connection: Queryable, user: User) -> dict[str, Any]:
    roles = table.roles_of(connection, user.person_id)
    return {
        "user": user.id,
        "name": user.name,
        "person": user.person_id,
        "same_as": [each.id for each in table.of_person(connection, user.person_id) if each.id != user.id],
        "roles": [{"role": row["role"], "agent_group": row["agent_group"]} for row in roles],
        "direct_chat": user.direct_chat,
        "created_at": user.created_at,
    }
