"""`python -m container_agent.relay`: the way out of an agent on another machine than the host.

It runs in a container of its own beside the agent's, which has no network. The two share a folder that holds one
socket. What connects there is carried, byte by byte, to the host's gateway over TLS, behind the token of the run. The
agent sees neither the token nor the network.

    DUMBWAITER_RELAY_SOCKET        where the agent connects                    /way/gateway.sock
    DUMBWAITER_RELAY_ADDRESS       the gateway, host:port
    DUMBWAITER_RELAY_CERTIFICATE   its certificate (PEM): no other is trusted
    DUMBWAITER_RELAY_TOKEN         the token of the run
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

SOCKET = "/way/gateway.sock"
_CHUNK = 64 * 1024
_BACKLOG = 1024


async def relay(environment: Mapping[str, str], stop: asyncio.Event) -> None:
    """Carry connections until told to stop. Raises `OSError`, `KeyError`, `ValueError`."""
    path = Path(environment.get("DUMBWAITER_RELAY_SOCKET", SOCKET))
    host, _, port = environment["DUMBWAITER_RELAY_ADDRESS"].rpartition(":")
    token = environment["DUMBWAITER_RELAY_TOKEN"].encode() + b"\n"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # one certificate is trusted, under any address
    context.load_verify_locations(cadata=environment["DUMBWAITER_RELAY_CERTIFICATE"])

    async def opened(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = None
        try:
            answer, there = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context, limit=_CHUNK)
            there.write(token)
            await asyncio.gather(_pour(reader, there, ends=False), _pour(answer, writer, ends=True))
        except OSError as error:
            sys.stderr.write(f"the gateway at {host}:{port} cannot be reached: {error}\n")
        finally:
            for each in (there, writer):
                if each is not None:
                    each.transport.abort()

    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(opened, path, limit=_CHUNK, backlog=_BACKLOG)
    path.chmod(0o666)  # the folder is shared with the one agent alone
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    async with server:
        await stop.wait()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, ends: bool) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if ends:  # the gateway has said all; an agent that has said all still waits for the answer
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _run() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await relay(os.environ, stop)


if __name__ == "__main__":
    asyncio.run(_run())
