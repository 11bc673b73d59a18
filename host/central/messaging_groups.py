"""Messaging groups (chats), and the wirings that say which agent group serves which chat, when and in which session."""

from __future__ import annotations

import re
from enum import StrEnum

from host.central.database import Queryable, Transaction, one
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, InvalidValue, NotFound
from shared_schema.rows import Row

TERMINAL_CHANNEL = "cli"
"""The channel of the host's own terminal."""

ADDRESS = re.compile(r"(?P<channel_type>[a-z][a-z0-9_-]{0,31}):(?P<platform_id>\S.{0,254})")

INSERT = """
INSERT INTO messaging_groups (id, channel_type, platform_id, name, is_group, created_at, timezone, unknown_sender)
VALUES (:id, :channel_type, :platform_id, :name, :is_group, :created_at, :timezone, :unknown_sender)
ON CONFLICT DO NOTHING
"""
UPDATE = """
UPDATE messaging_groups SET name = :name, is_group = :is_group, timezone = :timezone, unknown_sender = :unknown_sender
WHERE id = :id
"""
DELETE = "DELETE FROM messaging_groups WHERE id = ?"
BY_ADDRESS = "SELECT * FROM messaging_groups WHERE channel_type = ? AND platform_id = ?"
BY_ID = "SELECT * FROM messaging_groups WHERE id = ?"
ALL = """
SELECT * FROM messaging_groups
WHERE :search IS NULL OR instr(channel_type || ':' || platform_id || ' ' || coalesce(name, ''), :search)
ORDER BY channel_type, platform_id LIMIT :limit
"""

USERS = """
SELECT agent_group_id FROM wirings WHERE messaging_group_id = :id
UNION SELECT agent_group_id FROM agent_destinations WHERE messaging_group_id = :id
UNION SELECT agent_group_id FROM home_channels WHERE messaging_group_id = :id
"""
INSERT_WIRING = """
INSERT INTO wirings (id, messaging_group_id, agent_group_id, session_mode, per_user, engage, sticky, pattern, reset,
    reset_minutes, reset_hour, archived, created_at, sender_scope, non_engaging, priority, agent_replies, progress)
VALUES (:id, :messaging_group_id, :agent_group_id, :session_mode, :per_user, :engage, :sticky, :pattern, :reset,
    :reset_minutes, :reset_hour, :archived, :created_at, :sender_scope, :non_engaging, :priority, :agent_replies,
    :progress)
ON CONFLICT (messaging_group_id, agent_group_id) DO UPDATE SET
    session_mode = excluded.session_mode, per_user = excluded.per_user,
    engage = excluded.engage, sticky = excluded.sticky, pattern = excluded.pattern, reset = excluded.reset,
    reset_minutes = excluded.reset_minutes, reset_hour = excluded.reset_hour, archived = excluded.archived,
    sender_scope = excluded.sender_scope, non_engaging = excluded.non_engaging, priority = excluded.priority,
    agent_replies = excluded.agent_replies, progress = excluded.progress
"""
DELETE_WIRING = "DELETE FROM wirings WHERE messaging_group_id = ? AND agent_group_id = ?"
WIRINGS_OF = "SELECT * FROM wirings WHERE messaging_group_id = ? ORDER BY priority DESC, created_at, id"
WIRING = "SELECT * FROM wirings WHERE messaging_group_id = ? AND agent_group_id = ?"
WIRED_TO = """
SELECT m.* FROM wirings w JOIN messaging_groups m ON m.id = w.messaging_group_id
WHERE w.agent_group_id = ? ORDER BY w.rowid LIMIT ?
"""
# In the order of the chats' own index, so that the first of many are found without the others.
WIRINGS_SHOWN = """
SELECT m.channel_type || ':' || m.platform_id AS messaging_group, a.name AS agent_group,
       w.session_mode, w.per_user, CASE w.sticky WHEN 1 THEN 'mention-sticky' ELSE w.engage END AS engage, w.pattern,
       w.reset, w.reset_minutes, w.reset_hour, w.archived, w.sender_scope, w.non_engaging, w.priority, w.agent_replies,
       w.progress, w.created_at
FROM messaging_groups m CROSS JOIN wirings w ON w.messaging_group_id = m.id
CROSS JOIN agent_groups a ON a.id = w.agent_group_id
WHERE :search IS NULL OR instr(m.channel_type || ':' || m.platform_id || ' ' || a.name, :search)
ORDER BY m.channel_type, m.platform_id, w.priority DESC, a.name LIMIT :limit
"""


class SessionMode(StrEnum):
    SHARED = "shared"
    PER_THREAD = "per-thread"
    AGENT_SHARED = "agent-shared"


class Engage(StrEnum):
    ALL = "all"
    MENTION = "mention"
    MENTION_STICKY = "mention-sticky"  # and all that is written in a thread where it was mentioned once
    PATTERN = "pattern"


class UnknownSender(StrEnum):
    """What becomes of a message by a person who has no role with any agent of the chat."""

    STRICT = "strict"  # it is dropped
    PAIR = "pair"  # the owner and the admins are asked whether to let them in
    PUBLIC = "public"  # it is taken


class SenderScope(StrEnum):
    """Whom an agent listens to, of those the chat lets in."""

    ALL = "all"
    MEMBERS = "members"


class NonEngaging(StrEnum):
    """What becomes of a message that the engage rule does not take."""

    DROP = "drop"
    ACCUMULATE = "accumulate"  # the next turn sees it, as context


class AgentReplies(StrEnum):
    """What becomes of what other agents of the chat say there."""

    IGNORE = "ignore"
    CONTEXT = "context"  # the next turn sees it
    ENGAGE = "engage"  # it is taken by the engage rule as if a person had written it, else it is context


class Archived(StrEnum):
    """What becomes of a message in an archived conversation."""

    REFUSE = "refuse"
    REOPEN = "reopen"


class ShownProgress(StrEnum):
    """What a chat is shown while an agent works: nothing, a sign of typing, or the answer as it grows."""

    OFF = "off"
    TYPING = "typing"
    DRAFT = "draft"


@dataclass(frozen=True, slots=True)
class MessagingGroup(Row):
    """One chat on one platform. `timezone` is a name such as Europe/Berlin; None means the setting."""

    id: str
    channel_type: str
    platform_id: str
    name: str | None
    is_group: int
    created_at: str
    timezone: str | None = None
    unknown_sender: str = UnknownSender.PUBLIC

    @property
    def address(self) -> str:
        """`<channel_type>:<platform_id>`, the form people type."""
        return f"{self.channel_type}:{self.platform_id}"


@dataclass(frozen=True, slots=True)
class Wiring(Row):
    """ "This messaging group is served by this agent group." `pattern` is set exactly when `engage` is `pattern`.

    `reset` (none, idle, daily, both) is when a conversation begins anew: after so many minutes of rest, and at an hour
    of the day.
    """

    id: str
    messaging_group_id: str
    agent_group_id: str
    session_mode: str
    per_user: int
    engage: str
    pattern: str | None
    created_at: str
    reset: str = "none"
    reset_minutes: int = 1440
    reset_hour: int = 4
    archived: str = Archived.REFUSE
    sticky: int = 0
    sender_scope: str = SenderScope.ALL
    non_engaging: str = NonEngaging.DROP
    priority: int = 0
    agent_replies: str = AgentReplies.IGNORE
    progress: str = ShownProgress.TYPING

    @property
    def rule(self) -> Engage:
        """The engage rule; the column `engage` has `mention` for `mention-sticky`, and `sticky` tells them apart."""
        return Engage.MENTION_STICKY if self.sticky else Engage(self.engage)


def default_unknown_sender(channel_type: str, *, is_group: bool) -> UnknownSender:
    """The rule of a chat that is added without one. Who sits at the terminal is the owner of the host."""
    if channel_type == TERMINAL_CHANNEL:
        return UnknownSender.PUBLIC
    return UnknownSender.STRICT if is_group else UnknownSender.PAIR


def parse_address(text: str) -> tuple[str, str]:
    """Channel type and platform id of `<channel_type>:<platform_id>`. Raises `InvalidValue`."""
    match = ADDRESS.fullmatch(text)
    if match is None or not text.isprintable():
        raise InvalidValue(
            f"'{text}' does not name a messaging group: write <channel_type>:<platform_id>, such as cli:terminal"
        )
    return match["channel_type"], match["platform_id"]


def insert(tx: Transaction, group: MessagingGroup) -> None:
    """Add a messaging group. Raises `Conflict` when it is there already."""
    if not tx.execute(INSERT, _columns(group)).rowcount:
        raise Conflict(f"there is a messaging group {group.address} already", hint="use `set` to change it")


def update(tx: Transaction, group: MessagingGroup) -> None:
    """Store what can be changed of a messaging group."""
    tx.execute(UPDATE, _columns(group))


def delete(tx: Transaction, messaging_group_id: str) -> None:
    """Remove a messaging group with its wirings and the destinations that point at it. Sessions stay."""
    tx.execute(DELETE, (messaging_group_id,))


def find(connection: Queryable, channel_type: str, platform_id: str) -> MessagingGroup | None:
    """The messaging group at that address, if it is registered."""
    row = one(connection, BY_ADDRESS, (channel_type, platform_id))
    return None if row is None else MessagingGroup.from_row(row)


def get_by_name(connection: Queryable, address: str) -> MessagingGroup:
    """The messaging group `<channel_type>:<platform_id>`. Raises `InvalidValue`, `NotFound`."""
    group = find(connection, *parse_address(address))
    if group is None:
        lists = "`dumbwaiter messaging-group list` shows all"
        raise NotFound(
            f"there is no messaging group {address}",
            hint=f"{lists}, `dumbwaiter messaging-group add {address}` adds it",
        )
    return group


def by_id(connection: Queryable, messaging_group_id: str) -> MessagingGroup | None:
    """The messaging group with that id, if there is one."""
    row = one(connection, BY_ID, (messaging_group_id,))
    return None if row is None else MessagingGroup.from_row(row)


def all_groups(connection: Queryable, search: str | None = None, limit: int | None = None) -> list[MessagingGroup]:
    """All messaging groups, by address; the first of them, or those in whose address or name a text stands."""
    values = {"search": search or None, "limit": -1 if limit is None else limit}
    return [MessagingGroup.from_row(row) for row in connection.execute(ALL, values)]


def wire(tx: Transaction, wiring: Wiring) -> None:
    """Add a wiring, or change the one that is there."""
    tx.execute(INSERT_WIRING, {name: getattr(wiring, name) for name in Wiring.__slots__})


def unwire(tx: Transaction, messaging_group_id: str, agent_group_id: str) -> bool:
    """Remove a wiring. Whether there was one."""
    return tx.execute(DELETE_WIRING, (messaging_group_id, agent_group_id)).rowcount > 0


def wiring_of(connection: Queryable, messaging_group_id: str, agent_group_id: str) -> Wiring | None:
    """The wiring of a chat to an agent group, if they are wired."""
    row = one(connection, WIRING, (messaging_group_id, agent_group_id))
    return None if row is None else Wiring.from_row(row)


def wirings_of(connection: Queryable, messaging_group_id: str) -> list[Wiring]:
    """The wirings of one chat, the highest priority first, then the oldest."""
    return [Wiring.from_row(row) for row in connection.execute(WIRINGS_OF, (messaging_group_id,))]


def wired_to(connection: Queryable, agent_group_id: str, limit: int) -> list[MessagingGroup]:
    """The chats an agent group serves, the longest served first."""
    return [MessagingGroup.from_row(row) for row in connection.execute(WIRED_TO, (agent_group_id, limit))]


def users(connection: Queryable, messaging_group_id: str) -> list[str]:
    """The ids of agent groups whose context names the chat."""
    return [row["agent_group_id"] for row in connection.execute(USERS, {"id": messaging_group_id})]


def wirings_shown(
    connection: Queryable, search: str | None = None, limit: int | None = None
) -> list[dict[str, object]]:
    """All wirings with the names people use; the first of them, or those in whose chat or agent a text stands."""
    values = {"search": search or None, "limit": -1 if limit is None else limit}
    return [dict(row) | {"per_user": bool(row["per_user"])} for row in connection.execute(WIRINGS_SHOWN, values)]


def _columns(group: MessagingGroup) -> dict[str, object]:
    return {name: getattr(group, name) for name in MessagingGroup.__slots__}
