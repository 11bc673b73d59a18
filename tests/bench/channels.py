"""Chats on real platforms: from an update at the platform's socket to the answer there, and what an idle bot costs.

The platforms are fakes in this process, which speak to the host over sockets as the real ones do.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from host.central.messaging_groups import Engage, SessionMode
from host.operations.chat import chat as terminal_chat
from host.routing.engage import engages
from host.routing.route_key import route_key
from host.runtime.fakes import FakeRuntime
from shared_schema.clock import SystemClock, to_text
from shared_schema.rows import Address
from tests.bench.figure import Figure, at_most, percentile, times
from tests.bench.process import MB, cpu_percents, resident
from tests.bench.workbench import BenchHost, Workbench
from tests.platforms.slack import APP_TOKEN, BOT_TOKEN, DIRECT, FakeSlack
from tests.platforms.telegram import Call, TelegramServer, telegram_server
from tests.support.daemon import Daemon
from tests.support.host import AGENT
from tests.support.wait import until

ROUNDS = 100
BLOCK = 10
ROOM = 40
"""Chats of the Telegram round trips, in turns: it takes three messages in three seconds in one of them."""
CHATS, ACTIVE, GROUPS = 1_000, 50, 5
WAVES = 6
FLOOD = 200
_MS = 1000
_FIRST = 5_000
_FLOODER = 4_999
_NEXT_LINE = "\n"
_IDLE_SECONDS = 8.0

Trip = Callable[[int], Awaitable[float]]


def measure(bench: Workbench) -> Iterator[Figure]:
    """Round trips, routing, accepting in a large house, and an idle bot."""
    trips = asyncio.run(_round_trips(bench))
    for name in ("telegram", "slack"):
        yield Figure(
            f"round trip on {name}, from socket to socket, p50",
            percentile(trips[name], 50) * _MS,
            "ms",
            percentile(trips["terminal"], 50) * _MS,
            times(1.5),
            note="the floor is the terminal's round trip",
        )
    yield _routing()
    few, many = asyncio.run(_accepting(bench))
    yield Figure(
        "accepting a message, 10,000 chats and 100,000 users, p50",
        percentile(many, 50) * _MS,
        "ms",
        percentile(few, 50) * _MS,
        times(1.1),
        note="the floor is the same with one chat",
    )
    yield from _idle(bench)


def measure_crowd(bench: Workbench) -> Iterator[Figure]:
    """A crowd beside a flood. Takes minutes: Telegram takes one message a second in a chat."""
    yield from asyncio.run(_crowd(bench))


# --- round trips ---


class _Slack(FakeSlack):
    """Notes when each message of the bot's came."""

    def __init__(self) -> None:
        super().__init__()
        self.came: asyncio.Queue[float] = asyncio.Queue()

    def _do_chat_postMessage(self, given: dict[str, Any]) -> dict[str, Any]:
        self.came.put_nowait(time.monotonic())
        return super()._do_chat_postMessage(given)


async def _round_trips(bench: Workbench) -> dict[str, list[float]]:
    """Seconds of each round, the three in turns, so that noise hits all alike. One conversation answers everywhere."""
    async with telegram_server() as server:
        fake = _Slack()
        await fake.start()
        channels = {
            "telegram": {"token": server.token, "api_url": server.url},
            "slack": {"token": BOT_TOKEN, "app_token": APP_TOKEN, "base_url": f"{fake.url}/api/"},
        }
        async with bench.host("process", channels=channels) as host:
            for number in range(ROOM):
                await _wire(host, f"telegram:{_FIRST + number}")
            await _wire(host, f"slack:{DIRECT}")
            await _wire(host, "cli:terminal")
            await _connected(host)

            async def on_telegram(number: int) -> float:
                count, began = len(server.sent), time.monotonic()
                server.say(f"message {number}", chat=_FIRST + number % ROOM)
                await server.wait_for(count + 1)
                return server.calls_of("sendMessage")[-1].at - began

            async def on_slack(number: int) -> float:
                began = time.monotonic()
                await fake.say(f"message {number}")
                return await asyncio.wait_for(fake.came.get(), 30) - began

            async def at_the_terminal(number: int) -> float:
                began = time.monotonic()
                async for item in terminal_chat(host.services, text=f"message {number}", agent_group=AGENT):
                    if item["type"] == "message":
                        return time.monotonic() - began
                raise AssertionError("the terminal got no answer")

            ways: dict[str, Trip] = {"telegram": on_telegram, "slack": on_slack, "terminal": at_the_terminal}
            for trip in ways.values():
                await trip(0)
            found: dict[str, list[float]] = defaultdict(list)
            for first in range(0, ROUNDS, BLOCK):
                for name, trip in ways.items():
                    for number in range(first, first + BLOCK):
                        found[name].append(await trip(number))
                        await host.settled()
        await fake.stop()
    return found


async def _wire(host: BenchHost, address: str, agent_group: str = AGENT) -> None:
    await host.do("messaging_group.add", address=address, is_group=False, unknown_sender="public")
    await host.do("wiring.add", messaging_group=address, agent_group=agent_group, session_mode="agent-shared")


async def _connected(host: BenchHost) -> None:
    await until(lambda: all(s["state"] == "connected" for s in host.services.running.states()), "all connect", 60)


# --- a crowd ---


async def _crowd(bench: Workbench) -> list[Figure]:
    """1,000 chats write to one bot, 50 of them are answered, wave after wave; then the same while one more floods."""
    async with telegram_server() as server:
        channels = {"telegram": {"token": server.token, "api_url": server.url}}
        async with bench.host("process", channels=channels, max_agents=GROUPS + 1) as host:
            for number in range(GROUPS + 1):
                await host.do("agent_group.add", name=f"group-{number}", provider="echo")
            for number in range(ACTIVE):
                await _wire(host, f"telegram:{_FIRST + number}", f"group-{number % GROUPS}")
            await _wire(host, f"telegram:{_FLOODER}", f"group-{GROUPS}")
            await _connected(host)
            await _waves(server, 1)  # starts the agents
            calm = await _waves(server, WAVES)
            for number in range(FLOOD):
                server.say(f"flood {number}", chat=_FLOODER)
            flooded = await _waves(server, WAVES)
            answered = "SELECT count(*) AS n FROM ingest WHERE status = 'completed'"
            accepted = FLOOD + ACTIVE * (2 * WAVES + 1)
            await until(lambda: not server.pending, "all is confirmed", 300)
            await until(lambda: _is(host, answered, accepted), "all is answered in the ledger", 300)
            lost = accepted - (await host.central("SELECT count(*) AS n FROM ingest"))[0]["n"]
    return [
        Figure(
            "p95 of 50 chats of 1,000 on one bot beside one that floods",
            percentile(flooded, 95) * _MS, "ms", percentile(calm, 95) * _MS, times(1.25),
            note="the floor is the same without the flood",
        ),
        Figure("messages lost or sent too fast in that", lost + len(server.breaches), "messages", None, at_most(0)),
    ]  # fmt: skip


async def _waves(server: TelegramServer, count: int) -> list[float]:
    """Seconds of each answer. The other chats write too, and nobody answers there."""
    found: list[float] = []
    for _ in range(count):
        wave = {f"wave {time.monotonic()} {number}": time.monotonic() for number in range(ACTIVE)}
        for number, text in enumerate(wave):
            wave[text] = time.monotonic()
            server.say(text, chat=_FIRST + number)
            for other in range(number, CHATS - ACTIVE, ACTIVE):
                if other % WAVES == count % WAVES:
                    server.say("hello", chat=10_000 + other)
        calls: dict[str, Call] = {}

        def all_answered(wave: dict[str, float] = wave, calls: dict[str, Call] = calls) -> bool:
            # Several people share a conversation, so that `echo` repeats the name of who spoke as well; and below its
            # first answer it says that no model is set.
            sent = server.calls_of("sendMessage")[-2 * ACTIVE - FLOOD :]
            calls.update({f"wave {call.text.partition(_NEXT_LINE)[0].rpartition('wave ')[2]}": call for call in sent})
            return wave.keys() <= calls.keys()

        await server.until(all_answered, 300)
        found += [calls[text].at - began for text, began in wave.items()]
        await asyncio.sleep(1.2)  # a second for each chat, as Telegram wants it
    return found


async def _is(host: BenchHost, statement: str, count: int) -> bool:
    return bool((await host.central(statement))[0]["n"] >= count)


# --- routing and accepting ---


def _routing() -> Figure:
    """Which of five wirings take a message, and which conversation it belongs to in each."""
    address = Address("telegram", "-1001234567890", "42")
    wirings = [
        (Engage.ALL, None, SessionMode.SHARED),
        (Engage.MENTION, None, SessionMode.PER_THREAD),
        (Engage.MENTION_STICKY, None, SessionMode.SHARED),
        (Engage.PATTERN, r"^(review|check)\b", SessionMode.AGENT_SHARED),
        (Engage.PATTERN, r"(?i)\bdeploy(ed|ing)?\b", SessionMode.PER_THREAD),
    ]
    text = "please review what was deployed yesterday, and tell me whether it can stay " * 4

    def decide() -> int:
        taken = 0
        for number, (engage, pattern, mode) in enumerate(wirings):
            if engages(engage, pattern, text=text, is_mention=True, is_group=True):
                route_key(mode, address, agent_group_id=f"agt_{number}", per_user=True, sender_id="1001")
                taken += 1
        return taken

    assert decide() == 4
    found = []
    for _ in range(2_000):
        began = time.perf_counter()
        decide()
        found.append(time.perf_counter() - began)
    return Figure("routing decision for five wirings, p50", percentile(found, 50) * 1e6, "µs", None, at_most(50))


async def _accepting(bench: Workbench) -> tuple[list[float], list[float]]:
    """Seconds until the platform may be told, in a small house and in a large one, in turns."""
    few: list[float] = []
    many: list[float] = []
    async with _house(bench) as small, _house(bench, chats=10_000, users=100_000) as large:
        for block in range(ROUNDS // BLOCK):
            for host, found in ((small, few), (large, many)):
                for number in range(BLOCK):
                    began = time.perf_counter()
                    await host.say("hello", message_id=f"{block}-{number}", chat="0", sender=f"user-{number}")
                    found.append(time.perf_counter() - began)
                    await asyncio.sleep(0.02)  # the row is written to the session meanwhile
    return few, many


@asynccontextmanager
async def _house(bench: Workbench, *, chats: int = 0, users: int = 0) -> AsyncIterator[BenchHost]:
    """A host that runs no agent, with so many chats and users beside its own."""
    quiet = {"poll_seconds": 3600, "start_seconds": 86_400.0, "silent_seconds": 86_400.0, "turn_seconds": 86_400.0}
    async with bench.host("fake", chats=1, make_runtime=FakeRuntime, max_agents=1, **quiet) as host:
        now = to_text(SystemClock().now())

        def fill(connection: Any) -> None:
            connection.executemany(
                "INSERT INTO messaging_groups (id, channel_type, platform_id, is_group, created_at) "
                "VALUES (?, 'memory', ?, 0, ?)",
                [(f"mgr_{number:016x}", f"chat-{number}", now) for number in range(chats)],
            )
            connection.execute(
                "INSERT INTO wirings (id, messaging_group_id, agent_group_id, session_mode, per_user, engage, "
                "created_at) SELECT 'wir_' || substr(m.id, 5), m.id, a.id, 'shared', 0, 'all', ? "
                "FROM messaging_groups m, agent_groups a WHERE m.platform_id LIKE 'chat-%'",
                (now,),
            )
            people = [(f"per_{number:016x}", now) for number in range(users)]
            connection.executemany("INSERT INTO people (id, created_at) VALUES (?, ?)", people)
            connection.executemany(
                "INSERT INTO users (id, person_id, created_at) VALUES (?, ?, ?)",
                [(f"memory:user-{number}", person, now) for number, (person, _) in enumerate(people)],
            )

        await host.services.central.write(fill)
        await host.say("warm up")
        yield host


# --- an idle bot ---


def _idle(bench: Workbench) -> Iterator[Figure]:
    """What a host has more of a core and of memory with an idle bot; beside it the SDK that is imported and no more."""
    bare = [_imports() for _ in range(3)]
    without = _rest(bench, {})
    found = asyncio.run(_with_a_bot(bench))
    yield Figure("idle Telegram channel, processor", max(0.0, found[0] - without[0]), "% of a core", None, at_most(0.1))
    yield Figure(
        "idle Telegram channel, resident memory", found[1] - without[1], "MB", statistics.median(bare), at_most(15),
        note="the floor is the SDK by itself, imported beside what the host has imported",
    )  # fmt: skip


async def _with_a_bot(bench: Workbench) -> tuple[float, float]:
    async with telegram_server() as server:
        channels = {"telegram": {"token": server.token, "api_url": server.url}}
        return await asyncio.to_thread(_rest, bench, channels)


def _rest(bench: Workbench, channels: dict[str, Any]) -> tuple[float, float]:
    """Percent of a core and MB of a host that rests."""
    host = Daemon(bench.new_folder("data"), CHANNELS=json.dumps(channels), POLL_SECONDS="3600")
    try:
        host.start()
        assert host.process is not None
        if channels:
            while host.call("channel.list")[0]["state"] != "connected":
                time.sleep(0.05)
        time.sleep(3.0)
        (cpu,) = cpu_percents([host.process.pid], _IDLE_SECONDS)
        return cpu, resident(host.process.pid)
    finally:
        host.close()


def _imports() -> float:
    """MB that the SDK adds to what a host has imported."""
    program = (
        "import re, host.cli.root, host.cli.run, host.daemon\n"
        "def rss(): return int(re.search(r'VmRSS:\\s+(\\d+)', open('/proc/self/status').read())[1]) * 1024\n"
        "before = rss(); import telegram, telegram.request; print(rss() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return int(done.stdout) / MB
