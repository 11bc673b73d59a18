"""Connecting to other hosts: the name is looked up once, and only an address that was checked is connected to.

Where the host has to go through a proxy, that looks the name up itself: what this side finds is checked all the same,
and only a name that this side cannot look up is left to the proxy unseen.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable, Sequence

from host.gateway.connection import Connection
from host.gateway.grant import Patience
from host.gateway.lookups import Find, Lookups
from host.gateway.policy import Address, NetworkDestination, Rule, address_of, is_listed, usable
from host.gateway.proxies import Proxies, Proxy
from host.gateway.refusal import Reason, Refused

_ADDRESSES = 4
_LONGEST_ANSWER = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")


class Egress:
    """Connects.

    `find` is asked for the addresses of a host, by default the system. `proxies` are what other hosts are behind.
    """

    def __init__(
        self,
        patience: Patience,
        find: Find | None = None,
        proxies: Proxies = Proxies(),  # noqa: B008 - frozen
    ) -> None:
        self._proxies = proxies
        self._patience = patience
        self._lookups = Lookups(find or _addresses)

    async def connect(
        self,
        rules: Sequence[Rule],
        destination: NetworkDestination,
        turn: asyncio.Semaphore,
        *,
        make: Callable[[], Connection] = Connection,
        is_plain: bool = False,
    ) -> tuple[Connection, Proxy | None]:
        """A connection to a host that the list allows. `turn` limits the lookups of one session. Raises `Refused`.

        `make` makes its end on this side.

        With a proxy it is a tunnel through that. For a request in plain HTTP (`is_plain`) it is a connection to the
        proxy, which comes with it, and wants to be asked in its own form.
        """
        if not is_listed(rules, destination):
            raise Refused(
                Reason.NOT_LISTED,
                f"{destination} is not on the list of hosts that this agent may reach; "
                "an administrator can allow it with: dumbwaiter agent-group set NAME --allow HOST",
            )
        proxy = self._proxies.of("http" if is_plain else "https", destination.host, destination.port)
        try:
            found = await self._look_up(destination, turn)
        except Refused:
            if proxy is None:
                raise
            return await self._through(proxy, destination, turn, make, is_plain=is_plain)
        addresses = usable(rules, found, destination.port)
        if not addresses:
            raise Refused(
                Reason.NOT_PUBLIC,
                f"{destination} is in a network that is not public, and its address is not on the list of this agent.",
            )
        if proxy is not None:
            return await self._through(proxy, destination, turn, make, is_plain=is_plain)
        for address in addresses[:_ADDRESSES]:
            try:
                async with asyncio.timeout(self._patience.connect):
                    _, connection = await asyncio.get_running_loop().create_connection(
                        make, str(address), destination.port
                    )
            except (OSError, TimeoutError):
                continue
            return connection, None
        raise Refused(Reason.UNREACHABLE, f"{destination} cannot be reached.")

    async def _through(
        self,
        proxy: Proxy,
        destination: NetworkDestination,
        turn: asyncio.Semaphore,
        make: Callable[[], Connection],
        *,
        is_plain: bool,
    ) -> tuple[Connection, Proxy | None]:
        """A tunnel to a host through a proxy (CONNECT), or with `is_plain` the proxy itself. Raises `Refused`."""
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self._patience.connect + self._patience.resolve):
                host = proxy.host
                if address_of(host) is None:  # in the session's own threads, and not in those of the whole host
                    host = str((await self._lookups.look_up(host, proxy.port, turn))[0])
                _, connection = await asyncio.get_running_loop().create_connection(make, host, proxy.port)
                if is_plain:
                    return connection, proxy
                lines = [f"CONNECT {destination} HTTP/1.1", f"Host: {destination}"]
                lines += [] if proxy.authorization is None else [f"Proxy-Authorization: {proxy.authorization}"]
                connection.write("\r\n".join([*lines, "", ""]).encode())
                head = await connection.read_until(b"\r\n\r\n", _LONGEST_ANSWER)
        except BaseException as error:  # also when it is cancelled: nothing else knows the connection
            if connection is not None:
                connection.close()
            if not isinstance(error, OSError | EOFError):  # a TimeoutError is an OSError
                raise
            raise Refused(
                Reason.UNREACHABLE, f"{destination} cannot be reached: the proxy {proxy} does not answer."
            ) from error
        match = _STATUS.match(head or b"")
        if match is None or not match[1].startswith(b"2"):
            connection.close()
            status = "" if match is None else f" (status {match[1].decode('ascii')})"
            raise Refused(
                Reason.UNREACHABLE,
                f"{destination} cannot be reached: the proxy {proxy} refused the connection{status}.",
            )
        return connection, None

    async def _look_up(self, destination: NetworkDestination, turn: asyncio.Semaphore) -> list[Address]:
        literal = address_of(destination.host)
        if literal is not None:
            return [literal]
        try:
            async with asyncio.timeout(self._patience.resolve):
                found = await self._lookups.look_up(destination.host, destination.port, turn)
        except TimeoutError as error:
            raise Refused(Reason.UNREACHABLE, f"The name {destination.host} was not found in time.") from error
        except (OSError, UnicodeError) as error:
            raise Refused(Reason.UNREACHABLE, f"The name {destination.host} cannot be found.") from error
        return found


def _addresses(host: str, port: int) -> list[Address]:
    """Blocks. IPv4 first: it fails at once where there is none, and IPv6 often does not."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    texts = dict.fromkeys(str(entry[4][0]) for entry in sorted(found, key=lambda entry: entry[0] != socket.AF_INET))
    return [ipaddress.ip_address(text) for text in texts]
