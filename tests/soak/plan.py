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
    provider: str = "scripted"
    service: str = ""  # the URL of the fake model service, for a provider that asks one
    turn_seconds: float | None = None
    start_seconds: float = 20.0
    idle_seconds: float = 15.0
    max_batch: int = 5
    calm: float = 1 / 3
    max_agents: int = 8
    host_lives: tuple[float, float] = (3.0, 12.0)
    between_agents_killed: tuple[float, float] = (0.5, 3.0)
    between_bursts: float = 0.5
    weather: float = 1.0
    silent_seconds: float = 3.0
    max_retries: int = 3
    settle_seconds: float = 240.0  # longer than a message may wait between two attempts, with those behind it
    bot_chats: int = 6  # on Telegram, and one webhook besides; 0: no bot runs
    schedules: int = 1_000  # that are hardly ever due, beside the few that always are; 0: nothing acts by itself
    talkers: int = 20  # agents that write to each other

    @classmethod
    def of(cls, provider: str, seconds: float, seed: int, runtime: str, sessions: int | None = None) -> Plan:
        """The usual run over a provider. The SDKs of the real ones take seconds of a processor to start."""
        if provider == "scripted":
            return cls(seconds=seconds, seed=seed, runtime=runtime, sessions=sessions or 50)
        return cls(
            seconds=seconds,
            seed=seed,
            sessions=sessions or 6,
            runtime=runtime,
            provider=provider,
            turn_seconds=180.0,
            start_seconds=120.0,
            idle_seconds=120.0,
            max_batch=1,
            max_agents=3 if provider == "model" else 2,
            host_lives=(5.0, 25.0),
            between_agents_killed=(15.0, 60.0),
            between_bursts=6.0,
            silent_seconds=40.0,
            settle_seconds=600.0,
            bot_chats=0,
            schedules=0,
        )

    @property
    def models(self) -> tuple[str, ...]:
        """What the agent group's model may be."""
        if self.provider == "scripted":
            return ("model-1", "model-2", "model-3")
        names = ("anthropic:claude-1", "anthropic:claude-2")
        return names if self.provider == "claude" else (*names, "openai:gpt-1", "google:gemini-1")

    @property
    def upstreams(self) -> dict[str, str]:
        """Settings that lead the host's gateway to the fake service."""
        if not self.service:
            return {}
        urls = {"ANTHROPIC": self.service, "OPENAI": f"{self.service}/v1", "GOOGLE": self.service}
        return {
            f"UPSTREAMS__{name}__{part}": value
            for name, url in urls.items()
            for part, value in (("URL", url), ("KEY", "sk-of-the-soak"))
        }

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
            "MAX_BATCH": str(self.max_batch),
            "HEARTBEAT_SECONDS": f"{self.silent_seconds / 6:g}",
            "SILENT_SECONDS": f"{self.silent_seconds:g}",
            "START_SECONDS": f"{self.start_seconds:g}",
            "TURN_SECONDS": f"{self.turn_seconds or self.silent_seconds + 1:g}",
            "STOP_SECONDS": "1",
            "MAX_RETRIES": str(self.max_retries),
            "IDLE_SECONDS": f"{self.idle_seconds:g}",
            "RETRY_SECONDS": "0.1",
            "POLL_SECONDS": "0.5",
            "DELIVERY_SECONDS": f"{DELIVERY_SECONDS:g}",
            "DELIVERY_RETRY_SECONDS": "0.1",
            "LOG_FORMAT": "json",
            **self.upstreams,
        }


DELIVERY_SECONDS = 2.0
