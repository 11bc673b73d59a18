"""Who a person is to the host: their roles, and what these allow. What decides here is pure."""

from __future__ import annotations

from host.central import users
from host.central.database import Queryable
from host.central.users import Role
from shared_schema.dataclass import dataclass

TERMINAL = "cli:terminal"
"""The user at the host's own terminal, who is the owner: its socket is closed to all other users of the machine."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One user, the person they are, and the roles of that person. Without a person, the user is a stranger.

    `admin_of` and `member_of` are ids of agent groups; None among them is all of them.
    """

    user: str
    person_id: str | None = None
    name: str | None = None
    direct_chat: str | None = None
    is_owner: bool = False
    admin_of: frozenset[str | None] = frozenset()
    member_of: frozenset[str | None] = frozenset()

    @property
    def is_known(self) -> bool:
        """Whether they have any role."""
        return self.is_owner or bool(self.admin_of) or bool(self.member_of)

    @property
    def is_decider(self) -> bool:
        """Whether there is anything that they may decide."""
        return self.is_owner or bool(self.admin_of)

    def administers(self, agent_group_id: str | None) -> bool:
        """Whether they may change an agent group; None: all of them."""
        return self.is_owner or None in self.admin_of or (agent_group_id in self.admin_of)

    def belongs_to(self, agent_group_id: str) -> bool:
        """Whether they may talk to an agent group that talks to its members alone."""
        return self.administers(agent_group_id) or None in self.member_of or agent_group_id in self.member_of


AT_TERMINAL = Standing(TERMINAL, is_owner=True, name="the owner at the terminal")


def standing_of(connection: Queryable, user: str) -> Standing:
    """Who a user is. One statement; a stranger is a `Standing` without roles."""
    if user == TERMINAL:
        return AT_TERMINAL
    rows = users.standing_rows(connection, user)
    if not rows:
        return Standing(user)
    first = rows[0]
    return Standing(
        user,
        first["person_id"],
        first["name"],
        first["direct_chat"],
        any(row["role"] == Role.OWNER for row in rows),
        frozenset(row["agent_group_id"] for row in rows if row["role"] == Role.ADMIN),
        frozenset(row["agent_group_id"] for row in rows if row["role"] == Role.MEMBER),
    )
