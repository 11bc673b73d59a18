"""The host of the soak, in a process of its own: as `dumbwaiter run`, with the two platforms for channels.

python -m tests.soak.host DATA FOLDER_OF_SOCKETS
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from host import log as logs
from host.api.server import ApiServer
from host.central.database import Central
from host.lock import held
from host.operations.delegate import following_delegations
from host.operations.requests import answering
from host.operations.schedules import scheduling
from host.services import Services, runtime_for
from host.sessions.folder import Owner, make_data_folder
from host.settings import Settings, load
from shared_schema.clock import SystemClock
from tests.soak.channel import SocketChannel
from tests.soak.plan import KINDS

log = logging.getLogger(__name__)

_LOCK_SECONDS = 5.0
_THREADS = 32


async def serve(settings: Settings, sockets: Path) -> None:
    """Run until SIGTERM."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, "blocking"))
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    clock = SystemClock()
    central = await asyncio.to_thread(Central.open, settings.layout.central, clock)
    choice = await runtime_for(settings, central)
    channels = [SocketChannel(kind.name, kind.socket(sockets), idempotent=kind.idempotent) for kind in KINDS]
    services = Services(settings, clock, central, choice.runtime, choice.reason, lambda central, clock: channels)
    try:
        await services.start()
        api = ApiServer(services)
        try:
            await api.start()
            async with answering(services), following_delegations(services), scheduling(services):
                log.info("ready", extra={"adopted": services.adopted})
                await stop.wait()
        finally:
            await api.close()
    finally:
        await services.close(stop_agents=True)


def main(data: Path, sockets: Path) -> None:
    """Take the data folder and serve."""
    settings = load({"data": data})
    os.umask(0o077)
    make_data_folder(settings.layout, Owner.of_agents(10001))
    logs.configure(settings.log_level, settings.log_format)
    with held(settings.layout, wait_seconds=_LOCK_SECONDS):
        asyncio.run(serve(settings, sockets))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
