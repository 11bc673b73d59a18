"""What follows from the writes of central.db, handed to who does it. One place knows them all.

Effects are hints: each says where something is to be found in the ledger. What is lost with a host, the next one finds
there at its start. Without a running host only what needs none is done: files are told what was accepted (`to_write`),
and the terminal's own chat is served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from host.central.agent_groups import AgentGroupChanged
from host.central.approvals import ApprovalsChanged
from host.central.container_changes import ContainerWaits
from host.central.database import Effect
from host.central.deliveries import ChatHasNews, DeliveryOver
from host.central.host_messages import HostSpeaks
from host.central.ingest import CommandAccepted, CommandOver, SessionHasNews
from host.central.messaging_groups import TERMINAL_CHANNEL
from host.central.schedules import SchedulesChanged
from host.channels.cli import TerminalChannel
from host.delivery.control_results import WantsTitle
from host.delivery.deliver import Deliverer
from host.delivery.host_messages import HostMessenger
from host.delivery.request import AgentAsks, AgentRequest
from host.delivery.titling import Titling
from host.routing.open_commands import OpenCommands
from host.supervision.progress import ProgressDisplay
from host.supervision.supervisor import Supervisor


class Dispatcher:
    """Hands effects on in the event loop, in their order, before those who wait for the commit hear of it."""

    def __init__(
        self,
        deliverer: Deliverer,
        messenger: HostMessenger,
        supervisor: Supervisor,
        progress: ProgressDisplay,
        titling: Titling,
        terminal: TerminalChannel,
        open_commands: OpenCommands,
    ) -> None:
        self._deliverer = deliverer
        self._messenger = messenger
        self._supervisor = supervisor
        self._progress = progress
        self._titling = titling
        self._terminal = terminal
        self._open_commands = open_commands
        self._loop = asyncio.get_running_loop()
        self._followers: set[asyncio.Event] = set()
        self.commits = 0
        """How many commits those who follow were told of: by it one tells a commit from a hint of an agent."""
        self.is_running = False
        """Whether a host runs; without one, the next host does what follows."""
        self.commands: asyncio.Queue[str] = asyncio.Queue()
        self.requests: asyncio.Queue[tuple[str, AgentRequest]] = asyncio.Queue()
        self.container_waits = asyncio.Event()
        """Set when a change of containers is to be made."""
        self.to_write: dict[str, None] = {}
        self.decided = asyncio.Event()
        """Set when an approval was asked for or decided, or what agents are told of has changed by that."""
        self.schedules_changed = asyncio.Event()
        """Set when a schedule was made or changed: when the next one is due must be found out anew."""
        self._changed_agent_groups: set[str] = set()

    def committed(self, effects: Sequence[Effect]) -> None:
        """Take the effects of a commit. Any thread; does not block."""
        if not effects and not self._followers:  # who begins to follow looks for itself first
            return
        with suppress(RuntimeError):  # the loop is closed: the next host finds it in the ledger
            self._loop.call_soon_threadsafe(self._dispatch, effects)

    @contextmanager
    def following(self) -> Iterator[asyncio.Event]:
        """An event that is set after each commit, until the block ends: for live views."""
        news = asyncio.Event()
        self._followers.add(news)
        try:
            yield news
        finally:
            self._followers.discard(news)

    def take_changed_agent_groups(self) -> list[str]:
        """The agent groups whose agents are to be told of changes; asking takes them."""
        changed, self._changed_agent_groups = sorted(self._changed_agent_groups), set()
        return changed

    def take_back_changed(self, agent_groups: Iterable[str]) -> None:
        """Take back agent groups whose agents could not be told."""
        self._changed_agent_groups.update(agent_groups)

    def _dispatch(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if self.is_running:
                self._hand_on(effect)
            else:
                self._keep(effect)
        self._terminal.notice()
        self.commits += 1
        for news in self._followers:
            news.set()

    def _hand_on(self, effect: Effect) -> None:
        match effect:
            case ChatHasNews(chat, following):
                self._deliverer.kick(chat, following)
            case SessionHasNews(session_id, in_background=True):
                self._supervisor.accepted_in_background(session_id)
            case SessionHasNews(session_id, is_asked):
                self._supervisor.accepted(session_id)
                if is_asked:
                    self._progress.accepted(session_id)
            case DeliveryOver(session_id):
                self._supervisor.delivered(session_id)
            case CommandAccepted(message_id):
                self.commands.put_nowait(message_id)
            case CommandOver(message_id):
                self._open_commands.done(message_id)
            case HostSpeaks():
                self._messenger.kick()
            case ApprovalsChanged():
                self.decided.set()
            case AgentGroupChanged(agent_group_id):
                self._changed_agent_groups.add(agent_group_id)
                self.decided.set()
            case SchedulesChanged():
                self.schedules_changed.set()
            case WantsTitle(session_id):
                self._titling.wanted(session_id)
            case AgentAsks(session_id, request):
                self.requests.put_nowait((session_id, request))
            case ContainerWaits():
                self.container_waits.set()

    def _keep(self, effect: Effect) -> None:
        match effect:
            case ChatHasNews((channel, _) as chat, following) if channel == TERMINAL_CHANNEL:
                self._deliverer.kick(chat, following)
            case SessionHasNews(session_id):
                self.to_write[session_id] = None
