"""Where the objects of a host are built and handed to each other. Nothing else constructs them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from host.agents.channel import AgentChannel
from host.central import agent_groups, deliveries, ingest, nodes, runs, sessions
from host.central.database import Central
from host.central.quota import Quota
from host.channels.api import ApiChannel
from host.channels.browser import BrowserChannel
from host.channels.cli import TerminalChannel
from host.channels.downloads import Downloads
from host.channels.protocol import Channel
from host.channels.running import RunningChannels
from host.delivery.copy import Copier
from host.delivery.deliver import Deliverer
from host.delivery.host_messages import HostMessenger
from host.delivery.retry import RetryPolicy
from host.delivery.titling import Titling
from host.dispatcher import Dispatcher
from host.gateway import proxies
from host.gateway.upstreams import configure, read_file
from host.history.feed import History
from host.hook_switch import HookSwitch
from host.page import PageSwitch
from host.routing.acceptance import Rules
from host.routing.router import Router
from host.runtime.choose import Choice, choose, others
from host.runtime.engine_address import of_node
from host.runtime.placement import ManyNodes
from host.runtime.protocol import Runtime
from host.sessions.attachments import FileLimits
from host.sessions.context import TurnLimits
from host.sessions.folder import Owner, clear_removed
from host.sessions.host_profile import HostProfile, Platform
from host.sessions.inbox_sync import InboxSync
from host.sessions.redaction import Redaction
from host.settings import NodeSetting, Settings, engine_address, kubeconfig, proxy_variables, vendor_variables
from host.supervision.adopt import adopt, adopt_known
from host.supervision.decide import SupervisionLimits
from host.supervision.gateway import gateway_for, tell_of_way
from host.supervision.progress import ProgressDisplay
from host.supervision.runs import Runs
from host.supervision.supervisor import Supervisor
from host.supervision.sync import SessionSync
from host.traced_calls import TracedCalls
from host.transcription import Transcriber
from host.watch.choose import choose as choose_watcher
from host.watch.protocol import Watcher
from shared_schema.clock import Clock

if TYPE_CHECKING:
    from host.runtime.kubernetes_cluster import ClusterPlan
    from host.runtime.nodes import Node, NodesRuntime
    from host.runtime.swarm import SwarmRuntime

MakeChannels = Callable[[Central, Clock], Sequence[Channel]]


def no_channels(central: Central, clock: Clock) -> Sequence[Channel]:
    """No channel but the terminal."""
    return ()


async def runtime_for(settings: Settings, central: Central) -> Choice:
    """The runtime that the settings ask for. Raises as `choose`."""
    groups = await central.read(agent_groups.all_groups)
    return await choose(
        settings.runtime,
        install_id=central.install_id,
        image=settings.image,
        providers={group.provider for group in groups},
        base_image=settings.base_image,
        run_folder=settings.layout.run,
        docker_host=await asyncio.to_thread(engine_address, settings),
        oci_runtime=settings.oci_runtime,
        agent_uid=settings.agent_uid,
        nodes=nodes_of(settings),
        cluster=cluster_of(settings),
        stop_seconds=settings.stop_seconds,
    )


def node_of(setting: NodeSetting) -> Node:
    """A node as its runtime takes it."""
    from host.runtime.nodes import Node  # takes 150 ms

    address = of_node(
        setting.name,
        setting.address,
        certificate=setting.certificate,
        key=setting.key,
        authority=setting.authority,
    )
    return Node(setting.name, address, setting.labels, setting.max_agents)


def cluster_of(settings: Settings) -> ClusterPlan | None:
    """The Kubernetes cluster of the settings; None where they name none."""
    if not settings.kubernetes.volumes:
        return None
    from host.runtime.kubernetes_client import ClusterAccess
    from host.runtime.kubernetes_cluster import ClusterPlan
    from host.runtime.kubernetes_pod import SharedVolume

    asked, owner = settings.kubernetes, Owner.of_agents(settings.agent_uid)
    return ClusterPlan(
        access=ClusterAccess(asked.namespace, kubeconfig(settings), asked.context),
        volumes=[SharedVolume(each.folder, each.claim, each.host_path) for each in asked.volumes],
        template=asked.template,
        image_pull_secrets=asked.image_pull_secrets,
        runtime_class=asked.runtime_class,
        grace_seconds=math.ceil(settings.stop_seconds) + 5,
        pending_seconds=asked.pending_seconds,
        open_network=asked.open_network,
        uid=owner.uid,
        gid=owner.gid,
        gateway=settings.gateway_address,
    )


def nodes_of(settings: Settings) -> Sequence[Node]:
    """The nodes of the settings."""
    return [node_of(setting) for setting in settings.nodes]


def runtimes_of(names: set[str], settings: Settings, install_id: str) -> list[Runtime]:
    """The runtimes of these names, in which earlier hosts may have left agents; nothing is started here."""
    return others(
        names,
        install_id,
        settings.layout.run,
        engine_address(settings),
        nodes_of(settings),
        cluster_of(settings),
        image=settings.image,
    )


def nodes_runtime(settings: Settings, install_id: str, nodes: Sequence[NodeSetting]) -> NodesRuntime:
    """A runtime of these nodes, for a moment."""
    from host.runtime.nodes import NodesRuntime

    return NodesRuntime(
        install_id,
        [node_of(setting) for setting in nodes],
        run_folder=settings.layout.run,
        image=settings.image,
        oci_runtime=settings.oci_runtime,
    )


def swarm_runtime(settings: Settings, install_id: str) -> SwarmRuntime:
    """The runtime of the Swarm of the settings, for a moment."""
    from host.runtime.swarm import SwarmRuntime

    run = settings.layout.run
    return SwarmRuntime(install_id, engine_address(settings), image=settings.image, probed_folder=run)


class Services:
    """A host's parts. `start` sets them going; without it they still answer operations (the CLI without a host).

    `others` are runtimes an earlier host used, and may have left agents in.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        central: Central,
        runtime: Runtime,
        runtime_reason: str,
        make_channels: MakeChannels = no_channels,
        others: Sequence[Runtime] = (),
    ) -> None:
        file_limits = FileLimits(settings.max_files, settings.max_file_bytes, settings.out_bytes)
        supervision_limits = SupervisionLimits(
            start_seconds=settings.start_seconds,
            silent_seconds=settings.silent_seconds,
            turn_seconds=settings.turn_seconds,
            idle_seconds=settings.idle_seconds,
            background_seconds=settings.background_seconds,
            engine_seconds=settings.engine_seconds,
            fault_seconds=settings.fault_seconds,
            retry_seconds=settings.retry_seconds,
            max_retries=settings.max_retries,
        )
        owner = Owner.of_agents(settings.agent_uid)
        self.upstreams = configure(settings.upstreams, read_file(settings.layout.upstreams), vendor_variables())
        """The model services; changed in place when a person sets one."""
        upstreams = self.upstreams
        self._way_out = (upstreams, proxies.configure(proxy_variables()))
        self.calls = TracedCalls(central, clock) if settings.telemetry.endpoint is not None else None
        """Model calls that are over, for traces; None where none are made."""
        self.gateway = gateway_for(central, settings, owner, clock, *self._way_out, spans=self.calls)
        self.settings = settings
        self.clock = clock
        self.central = central
        self.runtime = runtime
        self.runtime_reason = runtime_reason
        self._others = others
        self.started_at: datetime | None = None
        """Since when this host runs; None: it does not run, and answers operations alone."""
        self.adopted = 0
        self.added_nodes: dict[str, NodeSetting] = {}
        """Nodes that were added or changed since the settings were read."""
        self.terminal = TerminalChannel(central, clock)
        self.browser = BrowserChannel()
        self.programs = ApiChannel()
        self.page = PageSwitch()
        self.hooks = HookSwitch()
        self._platforms: dict[str, Platform] = {}
        self._in_clear: set[str] = set()
        self.running = RunningChannels(
            central,
            clock,
            settings.layout.downloads,
            file_limits,
            settings.channels,
            given=make_channels(central, clock),
            built=self._built,
            connected=self._connected,
        )
        self.channels = self.running.channels
        self.channels[self.terminal.name] = self.terminal
        self._built(self.terminal)
        for own in (self.browser, self.programs):
            self.channels[own.name] = own
            self._built(own)
        between = AgentChannel(
            central,
            clock,
            settings.layout,
            file_limits,
        )
        self.channels[between.name] = between
        self._built(between)
        self._in_clear.add(between.name)  # agents are no people
        turn_limits = TurnLimits(settings.max_batch, settings.turn_seconds)
        self.profile = self._profile()
        self.inbox_sync = InboxSync(central, settings.layout, owner, turn_limits, self.profile, self._outdated)
        self.deliverer = Deliverer(
            central,
            settings.layout,
            clock,
            self.channels,
            policy=RetryPolicy(settings.delivery_retry_seconds, settings.delivery_hours),
            attempt_seconds=settings.delivery_seconds,
            settle=lambda session_id: self.progress.settle(session_id),
            why_not=self.running.why_not,
            works=self._works,
            hide=self.running.hide,
        )
        self.messenger = HostMessenger(
            central,
            clock,
            self.channels,
            policy=RetryPolicy(settings.delivery_retry_seconds, settings.delivery_hours),
            attempt_seconds=settings.delivery_seconds,
            noticed=self.terminal.notice,
            works=self._works,
            hide=self.running.hide,
        )
        self.delegated = asyncio.Event()
        """Set when a task was delegated, or is to be stopped."""
        self.history = History(
            settings.layout,
            hour_rows=settings.kept_rows_per_hour,
            hour_bytes=settings.kept_bytes_per_hour,
            rows=settings.kept_rows,
            bytes=settings.kept_bytes,
        )
        quota = Quota(
            settings.kept_rows,
            settings.kept_bytes,
            settings.kept_rows_per_hour,
            settings.kept_bytes_per_hour,
            settings.max_waiting,
        )
        copier = Copier(central, file_limits=file_limits, max_text=settings.max_text, quota=quota)
        sync = SessionSync(
            central,
            self.inbox_sync,
            copier,
            clock,
            owner,
            silent_seconds=settings.silent_seconds,
            poll_seconds=settings.poll_seconds,
            touched=self.history.touched,
        )
        self.supervisor = Supervisor(
            self.inbox_sync,
            sync,
            Runs(central, runtime, self.inbox_sync, settings, clock, owner, supervision_limits, others, self.gateway),
            settings,
            clock,
            supervision_limits,
            changed=self._agents_changed,
            poll_now=self._poll_now,
        )
        self.titling = Titling(
            central,
            settings.title_seconds,
            is_running=self.supervisor.agents.__contains__,
        )
        self.router = Router(
            central,
            settings.layout,
            clock,
            Rules(settings.max_text, settings.zone, self.supervisor.is_working, settings.save_memory),
            file_limits=file_limits,
            fetched=Downloads(
                self.channels,
                settings.layout.downloads,
                file_limits,
                seconds=settings.delivery_seconds,
                transcribe=Transcriber(upstreams, {str(name): value for name, value in settings.transcription.items()}),
                hide=self.running.hide,
            ).fetched,
        )
        self.progress = ProgressDisplay(central, clock, self.channels, lambda: self.supervisor.agents)
        self._watcher: Watcher | None = None
        self.dispatcher = Dispatcher(
            self.deliverer,
            self.messenger,
            self.supervisor,
            self.progress,
            self.titling,
            self.terminal,
            self.router.open_commands,
        )
        central.dispatch = self.dispatcher.committed
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Take up everything an earlier host left, then take events."""
        await self.heed_nodes()
        known = await self.central.read(sessions.all_ids)
        await asyncio.to_thread(clear_removed, self.settings.layout, known)
        await asyncio.to_thread(self.inbox_sync.clear_spool)
        self.history.start()
        self._watcher = choose_watcher(
            "off" if self.settings.shared else self.settings.notify, self.supervisor.hinted, self.supervisor.is_busy
        )
        self.started_at = self.clock.now()
        self.dispatcher.is_running = True
        self._loop = asyncio.get_running_loop()
        tell_of_way(*self._way_out)
        if self.gateway.front is not None:
            await self.gateway.front.start()
        self.adopted = await adopt(
            self.central,
            self.supervisor,
            self.runtime,
            self._others,
            self.clock,
            self.settings.layout,
            self.gateway,
        )
        self.supervisor.open()
        await self.deliverer.mark_interrupted()
        await self.messenger.mark_interrupted()
        for session_id in await self.central.read(
            lambda c: [*runs.unsettled(c), *ingest.sessions_with_work(c), *deliveries.sessions_to_record(c)]
        ):
            self.supervisor.schedule(session_id)
        await self.terminal.start(self.router.ingest)
        await self.browser.start(self.router.ingest)
        await self.programs.start(self.router.ingest)
        await self.running.start(self.router.ingest)
        await self.progress.start()
        await self.deliverer.take_up()
        self.messenger.kick()

    async def heed_nodes(self) -> None:
        """Take over what the admin has said of nodes: which take no more agents, and which are lost."""
        words = await self.central.read(nodes.all_words)
        drained = frozenset(name for name, word in words.items() if word.drained_at is not None)
        lost = frozenset(name for name, word in words.items() if word.lost_at is not None)
        for runtime in (self.runtime, *self._others):
            if isinstance(runtime, ManyNodes):
                runtime.close_nodes(drained=drained, lost=lost)

    async def find_agents(self) -> None:
        """Without a running host: know the agents that a dead host left, so that operations can end them."""
        await self.heed_nodes()
        await adopt_known(self.central, self.supervisor, self.runtime, self.clock, self.settings.layout)

    async def write_accepted(self) -> None:
        """Without a running host: bring what was just accepted into the session folders, and start no agent."""
        for session_id in self.dispatcher.to_write:
            await asyncio.to_thread(self.inbox_sync.write_accepted, session_id)
        self.dispatcher.to_write.clear()

    async def close(self, *, stop_agents: bool) -> None:
        """End everything in the opposite order. Agents give back their turns, or (`stop_agents` false) go on alone."""
        await self.progress.close()
        await self.titling.close()
        await self.supervisor.close(stop_agents=stop_agents)
        await self.gateway.aclose()
        if self._watcher is not None:
            await self._watcher.close()
        await self.messenger.close()
        await self.deliverer.close()
        await self.running.close()
        await self.terminal.close()
        await self.browser.close()
        await self.programs.close()
        for runtime in (self.runtime, *self._others):
            await runtime.close()
        await self.history.close()
        await asyncio.to_thread(self.central.close)

    def _profile(self) -> HostProfile:
        """What agents are told of this host and its platforms."""
        settings = self.settings
        return HostProfile(
            runtime=self.runtime.name,
            timezone=settings.zone,
            save_memory=settings.save_memory,
            max_text=settings.max_text,
            max_files=settings.max_files,
            max_file_bytes=settings.max_file_bytes,
            platforms=self._platforms,  # which grow with the channels
            redaction=Redaction(self.central.first_install_id if settings.redact_ids else "", in_clear=self._in_clear),
            is_traced=self.calls is not None,
        )

    def _built(self, channel: Channel) -> None:
        """A channel is there: agents of its chats are told what its platform can do."""
        can = channel.capabilities
        self._platforms[channel.name] = Platform(None, can.takes_files, can.mentions_need_ids)  # longer text is split
        if can.mentions_need_ids:
            self._in_clear.add(channel.name)
        else:
            self._in_clear.discard(channel.name)

    def _connected(self, name: str) -> None:
        """A channel was started: what waited for it is sent now."""
        self.deliverer.channel_is_back(name)
        self.messenger.channel_is_back(name)

    def _works(self, name: str) -> None:
        """A channel has sent something: what could not be sent through it is tried now."""
        self.deliverer.channel_works(name)
        self.messenger.channel_works(name)

    def _outdated(self, session_id: str) -> None:
        """A session's file is to be told what became of a message (the next host's work if none runs). Any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.supervisor.schedule, session_id)

    def _poll_now(self) -> None:
        if self._watcher is not None:
            self._watcher.poll_now()

    def _agents_changed(self) -> None:
        if self._watcher is not None:
            agents = self.supervisor.agents.items()
            self._watcher.watch({agent.folder.out: session_id for session_id, agent in agents})
