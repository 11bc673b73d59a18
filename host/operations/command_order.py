"""A command that a person wrote, on its way: what it is about, and how it is answered.

Answer and outcome are always one transaction, with what the command does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import TypeVar
from zoneinfo import ZoneInfo

from host.access.standing import TERMINAL, Standing, standing_of
from host.central import agent_groups, deliveries, ingest, messaging_groups, routes, sessions, users
from host.central.agent_groups import AgentGroup
from host.central.audit import Actor
from host.central.database import Queryable, Transaction
from host.central.messaging_groups import TERMINAL_CHANNEL
from host.central.sessions import Session
from host.operations import command_answers as answers
from host.routing.acceptance import ARCHIVED
from host.routing.commands import ChatCommand
from host.services import Services
from host.sessions.reset import zone
from shared_schema.clock import to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict
from shared_schema.rows import Address, MessageInStatus

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order:
    """A command that a person wrote: its row of the ledger, and the session it was accepted for."""

    services: Services
    row: ingest.AcceptedMessage
    command: ChatCommand
    session: Session
    now: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "now", to_text(self.services.clock.now()))

    @property
    def chat(self) -> str:
        """Where it was written: `<channel>:<platform id>`."""
        return f"{self.row.channel_type}:{self.row.platform_id}"

    @property
    def actor(self) -> Actor:
        """Who has written it, for the audit log."""
        return Actor(self._user or f"{self.row.channel_type}:?", self.chat)

    def who(self, connection: Queryable) -> Standing | None:
        """Who has written it, and what they may do now; None where the platform does not say."""
        return None if self._user is None else standing_of(connection, self._user)

    def require_admin(self, connection: Queryable) -> None:
        """Raises `Conflict` for who is no admin of who answers here. Asked in the transaction that changes anything."""
        who = self.who(connection)
        if who is None or not who.administers(self.row.agent_group_id):
            name = self.agent_group(connection).name
            raise Conflict(answers.FOR_ADMINS.format(command=self.command.name, agent=name))

    @property
    def _user(self) -> str | None:
        """The terminal's own sender, and who hands in events there without one, is the owner of the host."""
        row = self.row
        if row.channel_type == TERMINAL_CHANNEL and row.sender_id in (None, "terminal"):
            return TERMINAL
        return None if row.sender_id is None else users.user_id(row.channel_type, row.sender_id)

    def present(self, connection: Queryable) -> Session:
        """The conversation that goes on where the command was written. Raises `Conflict` when there is none."""
        active = routes.route_of(connection, self.session).active_session_id
        if active is None:
            raise Conflict(answers.NOTHING_HERE)
        return sessions.get(connection, active)

    def open_present(self, connection: Queryable) -> Session:
        """The same, where something is to be changed in it. Raises `Conflict` also for an archived one."""
        present = self.present(connection)
        if present.status == "archived":
            raise Conflict(ARCHIVED)
        return present

    def why_not(self, connection: Queryable) -> str | None:
        """Returns why nothing can be done here at all: the conversation may have been deleted meanwhile."""
        try:
            self.present(connection)
        except Conflict as error:
            return error.what
        return None

    def agent_group(self, connection: Queryable) -> AgentGroup:
        """Who answers here."""
        group = agent_groups.by_id(connection, self.row.agent_group_id)
        assert group is not None, "a session keeps its agent group"
        return group

    def zone(self, connection: Queryable) -> ZoneInfo:
        """The time zone of the chat."""
        chat = messaging_groups.find(connection, self.row.channel_type, self.row.platform_id)
        return zone((chat and chat.timezone) or self.services.settings.zone)

    def is_open(self, connection: Queryable) -> bool:
        """Whether the command has no outcome yet."""
        row = ingest.get(connection, self.row.message_id)
        return row is not None and row.status == MessageInStatus.PENDING

    def finish(self, tx: Transaction, text: str, status: MessageInStatus = MessageInStatus.COMPLETED) -> None:
        """Answer, and give the command its outcome, in the caller's transaction; nothing when it has one."""
        row = self.row
        error = None if status == MessageInStatus.COMPLETED else text
        if not ingest.finish_command(tx, row.message_id, status, error=error):
            return
        if self.command.argument and not self.command.entry.argument:
            text = f"{text}\n\n{answers.STANDS_ALONE.format(name=self.command.name)}"
        address = Address(row.channel_type, row.platform_id, row.thread_id)
        whole = f"{self._prefix(tx)}{text}"
        deliveries.add_notice(tx, self.session.id, address, row.message_id, whole)

    def answering(self, answer: Callable[[Transaction, T], str]) -> Callable[[Transaction, T], None]:
        """For the transaction of an operation: answer with what is said of its result."""

        def also(tx: Transaction, done: T) -> None:
            if not self.is_open(tx):
                raise Conflict("the command was carried out before")
            self.finish(tx, answer(tx, done))

        return also

    async def write(self, run: Callable[[Transaction], None]) -> None:
        """A transaction; what was answered in it is sent."""
        await self.services.central.write(run)

    def _prefix(self, connection: Queryable) -> str:
        """Who answers, where several agents may, and it is not the host."""
        if self.command.entry.host_wide:
            return ""
        chat = messaging_groups.find(connection, self.row.channel_type, self.row.platform_id)
        several = chat is not None and len(messaging_groups.wirings_of(connection, chat.id)) > 1
        return f"[{self.agent_group(connection).name}] " if several else ""
