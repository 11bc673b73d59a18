"""How soon what an agent has written is at a client, beside the least: a bare process that waits for the same row.

The clock starts when SQLite deletes the journal of the agent's commit. With `synchronous=EXTRA` it syncs the folder
then, and lets no reader in before; so the bare process, which tries again every 0.1 ms, is told how long that takes.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shared_schema.layout import OUTBOUND
from tests.bench.observer import observing
from tests.bench.workbench import BenchHost
from tests.support.wait import until

Ask = Callable[[int], Awaitable[Sequence[float]]]
"""One round, by its number: the moments at which what was written then was at the client."""


@dataclass(slots=True)
class Behind:
    """Seconds from commits of an agent to the client, and to the bare process."""

    client: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)


async def behind_the_row(
    host: BenchHost,
    folder: Path,
    *,
    blocks: int,
    rounds: int,
    listening: Callable[[], AbstractAsyncContextManager[Ask]],
    alone: Callable[[int], Awaitable[object]],
) -> Behind:
    """Measure in blocks of rounds, in turns with the floor. `alone` is a round to which no client listens."""
    found = Behind()
    numbers = itertools.count()
    for _ in range(blocks):
        async with _commits(folder, reads=True) as took:
            for number in itertools.islice(numbers, rounds):
                await alone(number)
                await host.settled()
        found.bare += took
        async with _commits(folder) as told, listening() as ask:
            for number in itertools.islice(numbers, rounds):
                arrived = await ask(number)
                await host.settled()
                await until(lambda told=told, arrived=arrived: any(each < arrived[0] for each in told), "its commit")  # type: ignore[misc]
                found.client += [each - max(before for before in told if before < each) for each in arrived]
    return found


@asynccontextmanager
async def _commits(folder: Path, *, reads: bool = False) -> AsyncIterator[list[float]]:
    """The moments of the commits of `outbound.db`; with `reads`, the seconds until a bare process had read each."""
    found: list[float] = []
    async with observing(folder, reads=reads) as observer:

        async def note() -> None:
            while True:
                moment, what = await observer.next()
                if reads:
                    found.append(moment - float(what))
                elif what == OUTBOUND:
                    found.append(moment)

        noting = asyncio.create_task(note())
        try:
            yield found
        finally:
            noting.cancel()
