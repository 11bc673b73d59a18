"""A gateway in a process of its own that may have few files open, and that looks at them in every tick of its loop.

    python -m tests.gateway.small_host FOLDER TRANSPORT FILES      says "ready", and ends with its standard input

Prints one JSON object at the end: the highest descriptor that was in use, and how often a file could not be opened.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from pathlib import Path

from host.gateway.grant import Grant, Patience
from host.gateway.server import Gateway, Transport
from host.sessions.folder import Owner
from shared_schema.clock import SystemClock
from shared_schema.layout import SessionLayout


async def run(folder: Path, transport: Transport) -> None:
    """Serve one session until standard input ends."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    highest = failures = 0

    async def no_grant(session_id: str) -> Grant | None:
        return None

    def look() -> None:
        nonlocal highest, failures
        try:
            free = os.open(os.devnull, os.O_RDONLY)  # the lowest that is free
        except OSError:
            failures += 1
        else:
            highest = max(highest, free - 1)
            os.close(free)
        loop.call_soon(look)

    loop.add_reader(0, over.set)
    gateway = Gateway(
        no_grant,
        Owner.of_agents(10001),
        SystemClock(),
        refused=lambda *told: None,
        used=lambda *told: None,
        transport=transport,
        patience=Patience(linger=0.2),
    )
    await gateway.open("one", SessionLayout(folder))
    look()
    print("ready", flush=True)
    await over.wait()
    await gateway.aclose()
    print(json.dumps({"highest": highest, "failures": failures}), flush=True)


if __name__ == "__main__":
    files = int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    asyncio.run(run(Path(sys.argv[1]), Transport(sys.argv[2])))
