"""Accepting one message: from the event at the router until it is committed in the session's `inbound.db`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from host.runtime.fakes import FakeRuntime
from tests.bench import floor
from tests.bench.figure import Figure, percentile, times
from tests.bench.observer import Observer, observing
from tests.bench.workbench import BenchHost, Workbench
from tests.support.host import rows

ROUNDS = 100
BLOCK = 10
QUEUED_CHATS = 10
_MS = 1000
_FOR_EVER = 86_400.0


@dataclass(slots=True)
class _Times:
    """Seconds of each round. `accepted`: the channel may tell its platform; `written`: the session has it."""

    floor: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)


def measure(bench: Workbench) -> Iterator[Figure]:
    """With an agent that runs and answers, and with none."""
    for name, taken in (
        (f"with an agent ({bench.runtimes[0]})", asyncio.run(_with_an_agent(bench))),
        ("without an agent", asyncio.run(_without_agents(bench))),
    ):
        bare = percentile(taken.floor, 50) * _MS
        yield Figure(f"accepting a message, {name}, p50", percentile(taken.written, 50) * _MS, "ms", bare, times(3))
        yield Figure(
            f"of that until the platform may be told, {name}", percentile(taken.accepted, 50) * _MS, "ms", bare
        )


async def _with_an_agent(bench: Workbench) -> _Times:
    """The agent answers meanwhile, as agents do; the next message comes after its answer."""
    async with bench.host(bench.runtimes[0]) as host:
        await host.warm_up()
        return await _measure(bench, host, chats=1, answered=True)


async def _without_agents(bench: Workbench) -> _Times:
    """The only place is taken by an agent that never answers, so the sessions measured get none and their rows wait."""
    patience = {"start_seconds": _FOR_EVER, "silent_seconds": _FOR_EVER, "turn_seconds": _FOR_EVER}
    async with bench.host(
        "fake", chats=QUEUED_CHATS + 1, make_runtime=FakeRuntime, max_agents=1, poll_seconds=3600, **patience
    ) as host:
        await host.say("takes the place", chat=str(QUEUED_CHATS))
        for number in range(QUEUED_CHATS):  # makes the folders
            await host.say("warm up", chat=str(number))
        return await _measure(bench, host, chats=QUEUED_CHATS, answered=False)


async def _measure(bench: Workbench, host: BenchHost, *, chats: int, answered: bool) -> _Times:
    bare = bench.new_folder("bare").with_suffix(".db")
    floor.make_file(bare)
    taken = _Times()
    folders = {str(chat): await _folder(host, str(chat)) for chat in range(chats)}
    async with AsyncExitStack() as stack:
        observers = {chat: await stack.enter_async_context(observing(folder)) for chat, folder in folders.items()}
        while len(taken.written) < ROUNDS:
            taken.floor += [floor.write(bare) for _ in range(BLOCK)]
            for number in range(BLOCK):
                message, chat = f"message {len(taken.written)}", str(number % chats)
                began = time.perf_counter()
                await host.say(message, chat=chat, message_id=message)
                taken.accepted.append(time.perf_counter() - began)
                taken.written.append(await _committed(observers[chat], began) - began)
                if answered:
                    await host.channel.next_in(chat)
            if answered:
                await host.settled()
    await _require_all_written(host, ROUNDS)
    return taken


async def _folder(host: BenchHost, chat: str) -> Path:
    """The folder of the only session of a chat."""
    (row,) = await host.central(
        "SELECT s.id FROM sessions s JOIN messaging_groups m ON m.id = s.messaging_group_id WHERE m.platform_id = ?",
        chat,
    )
    return (await host.session(row["id"])).folder


async def _committed(observer: Observer, began: float) -> float:
    """When the next commit on `inbound.db` was done."""
    while True:
        when, name = await observer.next()
        if name == "inbound.db" and when > began:
            return when


async def _require_all_written(host: BenchHost, count: int) -> None:
    """What the ledger calls written is in the sessions' files."""
    listed = await host.do("session.list")
    found = sum(
        row["n"]
        for session in listed
        for row in rows(
            Path(session["path"]) / "inbound.db",
            "SELECT count(*) AS n FROM messages_in WHERE json_extract(content, '$.text') LIKE 'message %'",
        )
    )
    assert found == count, f"{found} of {count} messages are in the files"
