"""What the host has seen of one running agent. In memory only: after a restart it is observed anew.

A heartbeat counts when its time stamp *changes* while the host looks: what the stamp says, and what it said before this
agent was started, means nothing. So neither last week's file nor a jump of any clock nor a false stamp kills an agent
or keeps one alive.
"""

from __future__ import annotations

import asyncio
import math

from host.backoff import Backoff
from host.runtime.protocol import AgentHandle, AgentStatus
from host.sessions.outbox import Signature
from host.supervision.decide import AgentFacts
from shared_schema.background import BackgroundProcess
from shared_schema.dataclass import dataclass
from shared_schema.late_mount import sure_after
from shared_schema.layout import SessionLayout
from shared_schema.mcp_notices import Notification

_REST = 1.0
"""How long the host rests from an agent that writes more than one reconcile takes, in times of that reconcile. So a
flood costs its own session time, and leaves half of the host to the others."""


_UNREADABLE = Backoff(0.001, 2.0)

SHORTEST_MEASURE, NEAR_MEASURE, LONGEST_MEASURE = 1.0, 4.0, 15.0
"""Seconds between two measures of a folder: where it grows fast, where more than half of it is used, where it rests."""


@dataclass(slots=True)
class RunningAgent:
    """One agent, from its start (or adoption) to its end. Times are seconds on the monotonic clock."""

    handle: AgentHandle
    folder: SessionLayout
    started: float
    heartbeat_stamp: int | None
    heartbeat_seen: float | None = None
    signature: Signature | None = None
    changed: float = 0.0  # when a new state of its file was read
    read: float = 0.0  # when its file was read last, changed or not
    rest: float | None = None  # seconds before what one reconcile did not take is read; None: nothing is left
    last_activity: float = 0.0
    stirred: float = 0.0  # when something was said to it, or by it, last: from then on it is looked at less and less
    look_took: float = 0.0  # seconds of the last look whether its files have changed
    beat_looked: float = -math.inf  # when the heartbeat file was looked at
    busy_since: float | None = None
    unreadable_since: float | None = None
    blocked_since: float | None = None
    doing: str | None = None
    processes: tuple[BackgroundProcess, ...] = ()  # in the background, as it says
    notifications: frozenset[str] = frozenset()  # the keys of those of its MCP servers that were taken
    polled: float = 0.0
    polling: asyncio.Task[AgentStatus] | None = None  # the engine is asked and has not answered yet
    engine_away_since: float | None = None  # it did not answer from then on
    measured: float = 0.0
    measure_after: float = 0.0  # seconds from then on
    out_size: int = 0
    first_out_size: float | None = None
    out_is_full: bool = False
    evicted: bool = False
    has_new_messages: bool = False
    read_failures: int = 0

    def __post_init__(self) -> None:
        self.last_activity = self.stirred = self.polled = self.measured = self.started

    def engine_is_away(self, now: float) -> None:
        """Note that the engine does not answer."""
        if self.engine_away_since is None:
            self.engine_away_since = now

    def engine_is_back(self, now: float) -> None:
        """Note that the engine answers. What the agent showed meanwhile may come a moment later than the answer, so its
        silence is counted anew."""
        if self.engine_away_since is not None and self.heartbeat_seen is not None:
            self.heartbeat_seen = now
        self.engine_away_since = None

    def wants_poll(self, every: float, now: float) -> float | None:
        """How old an answer of the engine may be that is wanted now; None: it was asked within `every` seconds.

        Half of that time, so that one question can serve all agents of an engine: an end is seen that much later.
        """
        since = now - self.polled
        if since < every:
            return None
        self.polled = now
        return 0.0 if since == math.inf else every / 2

    def ask_afresh(self) -> None:
        """Have the engine asked about this very agent soon, however short ago it was asked."""
        self.cancel_poll()
        self.polled = -math.inf

    def cancel_poll(self) -> None:
        """Do not wait for what the engine says of this agent any more."""
        if self.polling is not None:
            self.polling.cancel()
            self.polling = None

    def wants_beat(self, every: float, now: float) -> bool:
        """Whether its heartbeat file is to be looked at: on a shared mount, where it is opened for that, what was seen
        within `every` seconds is enough."""
        is_known = self.folder.shared and self.heartbeat_seen is not None
        if is_known and now - self.beat_looked < every:
            return False
        self.beat_looked = now
        return True

    def saw_heartbeat(self, stamp: int | None, now: float) -> None:
        """Note the heartbeat file's present time stamp."""
        if stamp is not None and stamp != self.heartbeat_stamp:
            self.heartbeat_stamp = stamp
            self.heartbeat_seen = now

    def has_news(self, signature: Signature | None, now: float, poll_seconds: float) -> bool:
        """Whether `outbound.db` is to be read: it is not the state that was read last, or not all of that was read.

        On a mount that shows changes late that state is read once more, and again and again while an answer is wanted.
        """
        if signature is None or signature != self.signature or self.rest is not None:
            return True
        is_sure = self.read > self.changed and self.busy_since is None
        wait = sure_after(poll_seconds, self.read - self.changed)
        return self.folder.shared and not is_sure and now - self.read >= wait

    def saw_output(self, signature: Signature | None, now: float, *, rest: float | None, doing: str | None) -> None:
        """Note that `outbound.db` was read; `rest` is as the attribute, `doing` is what the agent says it does."""
        self.read = now
        if signature != self.signature or self.rest is not None:
            self.changed = self.last_activity = self.stirred = now
        self.signature = signature
        self.doing = doing
        self.rest = rest
        self.unreadable_since = None
        self.read_failures = 0

    def saw_processes(self, processes: tuple[BackgroundProcess, ...]) -> list[BackgroundProcess]:
        """Note its background processes; those that have ended since the last time."""
        over = {process.key for process in self.processes if not process.is_running}
        self.processes = processes
        return [process for process in processes if not process.is_running and process.key not in over]

    def saw_notifications(self, notifications: tuple[Notification, ...]) -> list[Notification]:
        """Note what its MCP servers notify of; what is new of that."""
        new = [each for each in notifications if each.key not in self.notifications]
        self.notifications = frozenset(each.key for each in notifications)
        return new

    @property
    def has_processes(self) -> bool:
        """Whether it says that a background process runs."""
        return any(process.is_running for process in self.processes)

    def saw_trouble(self, now: float) -> float:
        """Note that it could not be read; seconds until it should be tried again: soon at first, then less often."""
        self.unreadable_since = self.unreadable_since if self.unreadable_since is not None else now
        self.read_failures += 1
        return _UNREADABLE.after(self.read_failures)

    def saw_folder(self, *, usable: bool, now: float) -> None:
        """Note whether the host could write the session's own file: an agent that locks it keeps it from that."""
        if usable:
            self.blocked_since = None
        elif self.blocked_since is None:
            self.blocked_since = now

    def saw_work(self, waiting: int, outcomes: int, now: float) -> bool:
        """Note how many messages wait for an answer, and how many have just got their outcome. True: it gets busy."""
        gets_busy = bool(waiting) and self.busy_since is None
        if not waiting:
            self.busy_since = None
        elif self.busy_since is None or outcomes:
            self.busy_since = now
        if waiting or outcomes:
            self.last_activity = now
            self.evicted = False
        if gets_busy or outcomes:
            self.stirred = now
        return gets_busy

    def saw_size(self, size: int | None, limit: int, now: float) -> None:
        """Note how large its folder is; None when it is too large or too odd to be counted."""
        grown = max(0, (size or 0) - self.out_size) / max(now - self.measured, 0.001)
        self.measure_after = next_measure(self.measure_after, size or 0, grown, limit)
        self.measured, self.out_size = now, size or 0
        bytes_there = math.inf if size is None else size
        if self.first_out_size is None:
            self.first_out_size = bytes_there
        # What is full when an agent starts, another one has filled: it has some seconds in which to clear away.
        is_its_own = bytes_there > self.first_out_size or now - self.started >= LONGEST_MEASURE
        self.out_is_full = bytes_there > limit and is_its_own

    def facts(self, now: float) -> AgentFacts:
        """What is known about it now."""
        return AgentFacts(
            age=now - self.started,
            silent_for=_age(self.heartbeat_seen, now),
            idle_for=now - self.last_activity,
            busy_for=_age(self.busy_since, now),
            unreadable_for=_age(self.unreadable_since, now),
            blocked_for=_age(self.blocked_since, now),
            out_is_full=self.out_is_full,
            evicted=self.evicted,
            has_processes=self.has_processes,
        )


def next_measure(last: float, size: int, grown: float, limit: int) -> float:
    """After how many seconds a folder of that size, which has grown by so many bytes a second, is measured again.

    Twice as long as the last time while it rests; before half of what is left can be full where it grows.
    """
    calm = min(max(2 * last, SHORTEST_MEASURE), LONGEST_MEASURE if size < limit / 2 else NEAR_MEASURE)
    return calm if grown <= 0 else max(SHORTEST_MEASURE, min(calm, (limit - size) / grown / 2))


def rest_after(took: float) -> float:
    """Seconds that are left to others after a reconcile that took that long and did not read all there is."""
    return _REST * took


def _age(since: float | None, now: float) -> float | None:
    return None if since is None else now - since
