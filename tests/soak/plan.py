"""What a run is. Everything random in it is drawn from the seed, each actor having a stream of its own."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of platform. An `idempotent` one knows a message that it is sent twice."""

    name: str
    idempotent: bool

    def socket(self, folder: Path) -> Path:
        """Where it listens."""
        return folder / f"{self.name}.sock"


KINDS = (Kind("keyed", idempotent=True), Kind("plain", idempotent=False))
AGENT_GROUP = "porter"
DESTINATION = "bell"
"""A chat of the first kind that nobody writes in, and that the agents may send to under this name."""


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat on one platform."""

    platform: str
    id: str

    @property
    def address(self) -> str:
        """As the command line names it."""
        return f"{self.platform}:{self.id}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. `calm` is the last part of it, in which the host is not killed, so that a slope can be seen.

    Lives and pauses are in seconds; `weather` says how much worse than usual the platforms are.
    """

    seconds: float
    seed: int
    sessions: int = 50
    runtime: str = "process"
    calm: float = 1 / 3
    max_agents: int = 8
    host_lives: tuple[float, float] = (3.0, 12.0)
    between_agents_killed: tuple[float, float] = (0.5, 3.0)
    between_bursts: float = 0.5
    weather: float = 1.0
    silent_seconds: float = 3.0
    max_retries: int = 3
    settle_seconds: float = 240.0

    def stream(self, actor: str) -> random.Random:
        """The random numbers of one actor."""
        return random.Random(f"{self.seed}/{actor}")

    @property
    def chats(self) -> list[Chat]:
        """One for each session, half of them on each platform."""
        return [Chat(KINDS[number % len(KINDS)].name, f"chat-{number:02}") for number in range(self.sessions)]

    @property
    def settings(self) -> dict[str, str]:
        """The host's settings: short limits, so that a hang is found soon, and fewer places than sessions."""
        return {
            "RUNTIME": self.runtime,
            "MAX_AGENTS": str(self.max_agents),
            "MAX_BATCH": "5",
            "HEARTBEAT_SECONDS": f"{self.silent_seconds / 6:g}",
            "SILENT_SECONDS": f"{self.silent_seconds:g}",
            "START_SECONDS": "20",
            "TURN_SECONDS": f"{self.silent_seconds + 1:g}",
            "STOP_SECONDS": "1",
            "MAX_RETRIES": str(self.max_retries),
            "IDLE_SECONDS": "15",
            "RETRY_SECONDS": "0.1",
            "POLL_SECONDS": "0.5",
            "DELIVERY_SECONDS": f"{DELIVERY_SECONDS:g}",
            "DELIVERY_RETRY_SECONDS": "0.1",
            "LOG_FORMAT": "json",
        }


DELIVERY_SECONDS = 2.0
