"""A gateway with one session open, the agent's forwarder before it, and a service behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from container_agent.forwarder import Forwarder
from host.gateway.grant import Grant, Patience
from host.gateway.policy import parse_rule
from host.gateway.server import Gateway, Transport
from host.gateway.upstreams import Kind, Upstream
from host.gateway.usage import Usage
from host.sessions.folder import Owner
from shared_schema.clock import Clock, SystemClock
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import SessionLayout
from tests.gateway.service import Service, serving

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
    used: list[tuple[str, str, Usage]] = field(default_factory=list)

    def allow(self, *entries: str) -> None:
        """The allow-list from now on."""
        assert self.grant is not None
        self.grant = replace(self.grant, allow=tuple(parse_rule(entry) for entry in entries))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of the agent's to the gateway itself, past the token."""
        if self.transport is Transport.UNIX:
            return await asyncio.open_unix_connection(str(self.layout.gateway))
        told = json.loads((self.layout.folder / "gateway.json").read_text())
        reader, writer = await asyncio.open_connection(told["host"], told["port"])
        writer.write(told["token"].encode() + b"\n")
        return reader, writer

    async def raw(self, data: bytes) -> bytes:
        """All that comes back for these bytes until the gateway ends the connection."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            async with asyncio.timeout(20):
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
        upstreams = {kind.value: Upstream(kind.value, service.url, SecretStr(CANARY), kind) for kind in Kind}
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
            await made.forwarder.aclose()
            await gateway.aclose()
