"""Connecting to other hosts: the name is looked up once, and only an address that was checked is connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeAlias

from host.gateway.grant import Patience
from host.gateway.policy import Address, Destination, Rule, address_of, is_listed, usable
from host.gateway.refusal import Reason, Refused
from host.gateway.wire import Wire

_LOOKUPS = 8
_LOOKUPS_OF_ONE = 2
_ADDRESSES = 4

Find: TypeAlias = Callable[[str, int], list[Address]]
"""The addresses of a host at a port. May block; raises `OSError`."""


class Outward:
    """Looks up names in threads of its own: a name server that hangs costs those who ask it, and not the host.

    `find` is asked for the addresses of a host, by default the system.
    """

    def __init__(self, patience: Patience, find: Find | None = None) -> None:
        self._patience = patience
        self._find = find or _addresses
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="gateway-names")

    def close(self) -> None:
        """No more lookups."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def connect(self, rules: Sequence[Rule], destination: Destination, turn: asyncio.Semaphore) -> Wire:
        """A connection to a host that the list allows. `turn` limits the lookups of one session. Raises `Refused`."""
        if not is_listed(rules, destination):
            raise Refused(
                Reason.NOT_LISTED,
                f"{destination} is not on the list of hosts that this agent may reach; "
                "an administrator can allow it with: dumbwaiter agent-group set NAME --allow HOST",
            )
        found = await self._look_up(destination, turn)
        addresses = usable(rules, found, destination.port)
        if not addresses:
            raise Refused(
                Reason.NOT_PUBLIC,
                f"{destination} is in a network that is not public, and its address is not on the list of this agent.",
            )
        for address in addresses[:_ADDRESSES]:
            try:
                async with asyncio.timeout(self._patience.connect):
                    _, wire = await asyncio.get_running_loop().create_connection(Wire, str(address), destination.port)
            except (OSError, TimeoutError):
                continue
            return wire
        raise Refused(Reason.UNREACHABLE, f"{destination} cannot be reached.")

    async def _look_up(self, destination: Destination, turn: asyncio.Semaphore) -> list[Address]:
        literal = address_of(destination.host)
        if literal is not None:
            return [literal]
        try:
            async with asyncio.timeout(self._patience.resolve):
                found = await self._in_turn(destination, turn)
        except TimeoutError as error:
            raise Refused(Reason.UNREACHABLE, f"The name {destination.host} was not found in time.") from error
        except (OSError, UnicodeError) as error:
            raise Refused(Reason.UNREACHABLE, f"The name {destination.host} cannot be found.") from error
        return found

    async def _in_turn(self, destination: Destination, turn: asyncio.Semaphore) -> list[Address]:
        """A turn is over when its thread is, which goes on when nobody waits for it any more."""
        await turn.acquire()
        loop = asyncio.get_running_loop()
        looking = self._threads.submit(self._find, destination.host, destination.port)

        def give_back(_: Future[list[Address]]) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(turn.release)

        looking.add_done_callback(give_back)
        return await asyncio.wrap_future(looking)


def turn_for_lookups() -> asyncio.Semaphore:
    """How many names one session may look up at a time."""
    return asyncio.Semaphore(_LOOKUPS_OF_ONE)


def _addresses(host: str, port: int) -> list[Address]:
    """Blocks. IPv4 first: it fails at once where there is none, and IPv6 often does not."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    texts = dict.fromkeys(str(entry[4][0]) for entry in sorted(found, key=lambda entry: entry[0] != socket.AF_INET))
    return [ipaddress.ip_address(text) for text in texts]
