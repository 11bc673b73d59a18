"""Numbers for Prometheus. The one module that knows prometheus_client; nothing is counted until a scraper asks.

What ended is taken from the ledger when it is asked for: rows behind the last one that was seen, and those that were
open then. So a host that is not watched pays nothing. Counters begin with the first question after its start.

Labels are bounded: names of agent groups (the first hundred, then `other`), names of channels, and fixed words.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from host.central.ended import DELIVERIES, MESSAGES, TURNS, EndedFeed
from host.operations import status
from host.services import Services
from shared_schema.rows import FailureReason, TurnStatus

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
_MOST_AGENT_GROUPS = 100
_OTHER = "other"


class Metrics:
    """The numbers of one host."""

    CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, services: Services) -> None:
        self._services = services
        self._reading = asyncio.Lock()
        self._turns, self._messages, self._deliveries = EndedFeed(TURNS), EndedFeed(MESSAGES), EndedFeed(DELIVERIES)
        self._known: set[str] = set()
        self._registry = registry = CollectorRegistry()
        agent = ["agent_group"]

        def counter(name: str, what: str, labels: list[str]) -> Counter:
            return Counter(f"dumbwaiter_{name}", what, labels, registry=registry)

        def gauge(name: str, what: str, labels: list[str] | None = None) -> Gauge:
            return Gauge(f"dumbwaiter_{name}", what, labels or [], registry=registry)

        def histogram(name: str, what: str, labels: list[str]) -> Histogram:
            return Histogram(f"dumbwaiter_{name}", what, labels, buckets=_SECONDS, registry=registry)

        self._accepted = counter("messages_accepted", "Messages that were accepted.", [])
        self._outcomes = counter("messages_finished", "Messages by their outcome.", [*agent, "outcome"])
        self._round_trip = histogram("round_trip_seconds", "From accepted to its outcome.", agent)
        self._ended = counter("turns_finished", "Turns by how they ended.", [*agent, "status", "reason"])
        self._turn_seconds = histogram("turn_seconds", "How long turns took.", agent)
        self._tokens = counter("tokens", "Tokens of models.", [*agent, "direction"])
        self._dollars = counter("cost_dollars", "Dollars of models.", agent)
        self._sent = counter("deliveries_finished", "Messages that went out, by outcome.", ["channel", "outcome"])
        self._delivery_seconds = histogram("delivery_seconds", "From copied to sent.", ["channel"])
        self._waiting = gauge("messages_waiting", "Accepted messages without an outcome.")
        self._deliveries_waiting = gauge("deliveries_waiting", "Messages that wait to be sent.")
        self._running = gauge("turns_running", "Turns that run now.")
        self._agents = gauge("agents_running", "Agents that run now.")
        self._queue = gauge("agents_waiting", "Sessions that wait for a slot for their agent.")
        self._slots = gauge("agent_slots", "Agents that may run at the same time.")
        self._sessions = gauge("sessions", "Sessions that are kept.")
        self._faults = gauge("session_faults", "Sessions whose files cannot be used now.")
        self._approvals = gauge("approvals_waiting", "Approvals that wait for a decision.")
        self._connected = gauge("channel_connected", "Whether a channel is connected.", ["channel"])
        self._files = gauge("file_bytes", "Size of the host's own files.", ["file"])
        self._free = gauge("disk_free_bytes", "Free space where the data folder is.")

    async def text(self) -> bytes:
        """The numbers in the text format of Prometheus."""
        async with self._reading:  # what has ended is counted once
            now = await status.status(self._services)
            await self._take_ended()
            self._set(now)
            free = await asyncio.to_thread(shutil.disk_usage, self._services.settings.data)
            self._free.set(free.free)
            return await asyncio.to_thread(generate_latest, self._registry)

    async def _take_ended(self) -> None:
        read = self._services.central.read
        turns, _ = await read(self._turns.read)
        messages, accepted = await read(self._messages.read)
        deliveries, _ = await read(self._deliveries.read)
        self._accepted.inc(accepted)
        for row in turns:
            self._take_turn(row)
        for row in messages:
            name = self._name(row["agent_group"])
            self._outcomes.labels(name, row["status"]).inc()
            self._round_trip.labels(name).observe(_between(row))
        for row in deliveries:
            channel = row["channel_type"] if row["channel_type"] in self._services.channels else _OTHER
            self._sent.labels(channel, row["status"]).inc()
            self._delivery_seconds.labels(channel).observe(_between(row))

    def _take_turn(self, row: sqlite3.Row) -> None:
        name = self._name(row["agent_group"])
        status = row["status"] if row["status"] in set(TurnStatus) else _OTHER  # an agent says it
        reason = row["failure_reason"] or "none"
        known = reason in set(FailureReason) or reason == "none"
        self._ended.labels(name, status, reason if known else _OTHER).inc()
        self._turn_seconds.labels(name).observe(_between(row))
        self._tokens.labels(name, "input").inc(max(0, row["input_tokens"] or 0))
        self._tokens.labels(name, "output").inc(max(0, row["output_tokens"] or 0))
        self._dollars.labels(name).inc(max(0.0, row["cost_usd"] or 0.0))

    def _set(self, now: dict[str, Any]) -> None:
        self._waiting.set(now["backlog"]["messages"])
        self._deliveries_waiting.set(now["deliveries_waiting"])
        self._running.set(now["turns_running"])
        self._agents.set(len(now["agents"]))
        self._queue.set(now["waiting_agents"])
        self._slots.set(self._services.settings.max_agents)
        self._sessions.set(now["sessions"])
        self._faults.set(len(now["faults"]))
        self._approvals.set(len(now["approvals"]))
        self._connected.clear()
        for channel in now["channels"]:
            self._connected.labels(channel["name"]).set(channel["state"] == "connected")
        for name, size in now["files"].items():
            if isinstance(size, int):
                self._files.labels(os.path.basename(name)).set(size)

    def _name(self, agent_group: str) -> str:
        if agent_group not in self._known and len(self._known) >= _MOST_AGENT_GROUPS:
            return _OTHER
        self._known.add(agent_group)
        return agent_group


def _between(row: sqlite3.Row) -> float:
    """Seconds from its beginning to its end; 0 for what an agent says that cannot be."""
    try:
        return max(0.0, (datetime.fromisoformat(row["ended"]) - datetime.fromisoformat(row["began"])).total_seconds())
    except (TypeError, ValueError):
        return 0.0
