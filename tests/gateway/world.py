"""A gateway with one session open, the agent's forwarder before it, and a service behind it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from container_agent.forwarder import Forwarder
from host.gateway.grant import Grant, Patience, Tell
from host.gateway.policy import parse_rule
from host.gateway.server import Gateway, Transport
from host.gateway.upstreams import Upstream, UpstreamKind
from host.gateway.usage import CallUsage
from host.sessions.folder import Owner
from shared_schema.clock import Clock, SystemClock
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import SessionLayout
from tests.gateway.service import Service, serving
from tests.runtime.agents import UID

CANARY = "sk-canary-0123456789abcdef"
GROUP = "agr_0000000000000001"


@dataclass(slots=True)
class World:
    """`grant` can be replaced at any time; None: there is no such session."""

    gateway: Gateway
    transport: Transport
    session_id: str
    layout: SessionLayout
    forwarder: Forwarder
    service: Service
    grant: Grant | None
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    used: list[tuple[str, str, CallUsage]] = field(default_factory=list)
    connections: list[asyncio.StreamWriter] = field(default_factory=list)

    def allow(self, *entries: str) -> None:
        """The allow-list from now on."""
        assert self.grant is not None
        self.grant = replace(self.grant, allow=tuple(parse_rule(entry) for entry in entries))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of the agent's to the gateway itself, past the token."""
        reader, writer = await connect(self.layout, self.transport)
        self.connections.append(writer)
        return reader, writer

    async def hang_up(self) -> None:
        """End all connections of the agent's at once. `close` would wait for what the gateway has not taken yet."""
        for writer in self.connections:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in self.connections), return_exceptions=True)

    async def raw(self, data: bytes) -> bytes:
        """All that comes back for these bytes until the gateway ends the connection."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            async with asyncio.timeout(60):
                return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    @asynccontextmanager
    async def call(self, path: str, method: str = "POST", **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """A request to the base URL that SDKs are given."""
        url = f"http://127.0.0.1:{await self.forwarder.port()}{path}"
        async with aiohttp.ClientSession() as session, session.request(method, url, **options) as response:
            yield response

    async def message(self, **fields: Any) -> dict[str, Any]:
        """A call of Anthropic Messages; its answer."""
        async with self.call("/upstream/anthropic/v1/messages", json=fields or {"model": "claude-test"}) as response:
            return {"status": response.status, "headers": response.headers, **await response.json()}


async def connect(
    layout: SessionLayout, transport: Transport, *, with_token: bool = True
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the gateway itself, past the token."""
    if transport is Transport.UNIX:
        return await asyncio.open_unix_connection(str(layout.gateway))
    told = json.loads(layout.gateway_port.read_text())
    reader, writer = await asyncio.open_connection(told["host"], told["port"])
    if with_token:
        writer.write(told["token"].encode() + b"\n")
    return reader, writer


@asynccontextmanager
async def world(
    folder: Path, transport: Transport, patience: Patience | None = None, clock: Clock | None = None, **options: Any
) -> AsyncIterator[World]:
    """A world until the block ends. Upstreams of all kinds lead to its one service, each with the canary as its key."""
    session_id = new_id(Prefix.SESSION)
    layout = SessionLayout(folder / session_id)
    layout.folder.mkdir(parents=True)
    holder: list[World] = []

    async def grant_of(asked: str) -> Grant | None:
        return holder[0].grant if asked == session_id else None

    async with serving() as service:
        gateway = Gateway(
            grant_of,
            Owner.of_agents(10001),
            clock or SystemClock(),
            refused=lambda *told: holder[0].refused.append(told),
            used=lambda *told: holder[0].used.append(told),
            transport=transport,
            patience=patience or Patience(linger=0.2, between_tries=0.01),
            **options,
        )
        upstreams = {kind.value: Upstream(kind.value, service.url, SecretStr(CANARY), kind) for kind in UpstreamKind}
        made = World(
            gateway,
            transport,
            session_id,
            layout,
            Forwarder(layout),
            service,
            Grant(GROUP, upstreams=upstreams),
        )
        holder.append(made)
        await gateway.open(session_id, layout)
        try:
            yield made
        finally:
            await made.hang_up()
            await made.forwarder.aclose()
            await gateway.aclose()


@asynccontextmanager
async def open_to_container(layout: SessionLayout, grant: Grant, refused: Tell) -> AsyncIterator[Gateway]:
    """A gateway for a container on a folder of `tests.runtime.agents`, until the block ends."""

    async def grant_of(session_id: str) -> Grant:
        return grant

    # The folder of those tests is anybody's to enter, and so is the socket when the host is not root.
    owner = Owner(UID, UID) if os.geteuid() == 0 else Owner.of_agents(UID)
    gateway = Gateway(grant_of, owner, SystemClock(), refused=refused, used=lambda *told: None)
    await gateway.open(layout.folder.name, layout)
    if os.geteuid() != 0:
        layout.gateway.chmod(0o666)
    try:
        yield gateway
    finally:
        await gateway.aclose()
