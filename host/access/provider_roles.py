"""The roles that a sign-in provider gives: which ones follow from what it says of a person, and keeping them so.

A role that it gave is taken away when it gives it no longer; one that an owner gave stays. `roles_for` is pure.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from host.central import agent_groups, audit, channel_state, users
from host.central.database import Transaction
from host.central.users import Role
from shared_schema import json_text
from shared_schema.text import folded, is_all_shown, one_line

log = logging.getLogger(__name__)

_STATE = "web"
_LONGEST_HANDLE = 280
_LONGEST_NAME = 100
_LONGEST_EMAIL = 320
_MOST_GROUPS = 1000

Roles = frozenset[tuple[str, str | None]]
"""Role and name of the agent group; None: of all."""


def handle(issuer: str, subject: object) -> str | None:
    """How the page names a person of a provider: `<sub>@<issuer>`, which no other person ever is. None: unusable."""
    if not isinstance(subject, str) or not subject or not subject.isascii() or not subject.isprintable():
        return None
    named = f"{subject}@{issuer.partition('://')[2].rstrip('/')}"
    return named if " " not in named and len(named) <= _LONGEST_HANDLE and is_all_shown(named) else None


def roles_for(
    claims: Mapping[str, Any],
    *,
    claim: str,
    groups: Mapping[str, Iterable[str]],
    people: Mapping[str, Iterable[str]],
) -> Roles:
    """The roles of a person by their groups, their id, and their e-mail address if the provider has verified it."""
    said: list[str] = []
    for group in _values(claims, claim):
        said.extend(groups.get(group, ()))
    email = claims.get("email")
    is_verified = claims.get("email_verified") is True
    for name, roles in people.items():
        if "@" in name:  # an address: an id that looks like one is not taken for it
            is_theirs = is_verified and isinstance(email, str) and _same(email, name)
        else:
            is_theirs = claims.get("sub") == name
        if is_theirs:
            said.extend(roles)
    return frozenset((role, agent or None) for role, _, agent in (each.partition(":") for each in said))


def person_name(claims: Mapping[str, Any]) -> str | None:
    """What a person is called."""
    for name in ("name", "preferred_username", "email"):
        value = claims.get(name)
        if isinstance(value, str) and value.strip():
            return one_line(value, _LONGEST_NAME) or None
    return None


def keep(tx: Transaction, user: str, name: str | None, roles: Roles) -> None:
    """Give a user the roles of their provider, and take away those that it gave before and does not any more."""
    found = users.find(tx, user)
    if found is None:
        if not roles:  # a stranger leaves nothing behind
            return
        found = users.ensure(tx, user, name)
    elif name is not None and name != found.name:
        users.rename(tx, user, name)
    before = _given(channel_state.get(tx, _STATE, _key(user)))
    wanted: set[tuple[Role, str | None]] = set()
    for role, agent in roles:
        group = None if agent is None else agent_groups.find(tx, agent)
        if agent is not None and group is None:
            log.warning("a sign-in gives a role of an agent that there is not", extra={"agent": agent, "role": role})
            continue
        wanted.add((Role(role), None if group is None else group.id))
    given = {each for each in wanted if users.grant(tx, found.person_id, *each) or each in before}
    gone = {each for each in before - given if users.revoke(tx, found.person_id, *each)}
    if given == before:
        return
    channel_state.put(tx, _STATE, _key(user), json.dumps(sorted([role, agent or ""] for role, agent in given)))
    added = given - before
    audit.record(tx, "web.roles", user, before={"roles": _shown(gone)}, after={"roles": _shown(added)})


def _same(email: str, other: str) -> bool:
    return len(email) <= _LONGEST_EMAIL and folded(email, _LONGEST_EMAIL) == folded(other, _LONGEST_EMAIL)


def _values(claims: Mapping[str, Any], claim: str) -> list[str]:
    value: Any = claims.get(claim)
    if value is None:  # one claim inside another, as some providers have it
        value = claims
        for part in claim.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, str):
        return [value]
    return [each for each in value[:_MOST_GROUPS] if isinstance(each, str)] if isinstance(value, list) else []


def _given(text: str | None) -> set[tuple[Role, str | None]]:
    return set() if text is None else {(Role(role), agent or None) for role, agent in json_text.parse(text)}


def _shown(roles: Iterable[tuple[Role, str | None]]) -> list[str]:
    return sorted(f"{role}" if agent is None else f"{role} {agent}" for role, agent in roles)


def _key(user: str) -> str:
    return f"roles of {user}"
