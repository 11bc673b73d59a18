"""For what watches a host: `/healthz` (it lives), `/readyz` (it accepts messages), `/metrics` (Prometheus).

None of them needs a sign-in. The first two say one word; the numbers are for programs on this machine alone.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

from aiohttp import web

from host.services import Services
from host.web.metrics import Metrics
from shared_schema.errors import DumbwaiterError

PROBES = frozenset({"/healthz", "/readyz"})
"""Asked for under any name: what probes a container knows its address alone."""
_READY_SECONDS = 5.0
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


class HealthRoutes:
    """The three of them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._metrics = Metrics(services)
        self.routes = [
            web.get("/healthz", self._lives),
            web.get("/readyz", self._is_ready),
            web.get("/metrics", self._numbers),
        ]

    async def _lives(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _is_ready(self, request: web.Request) -> web.Response:
        """Ready is a host that can write down what comes in."""
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self._services.central.write(lambda connection: connection.execute("SELECT 1").fetchone())
        except (TimeoutError, DumbwaiterError):
            return web.Response(status=503, text="central.db cannot be written\n")
        if self._services.started_at is None:
            return web.Response(status=503, text="starting\n")
        return web.Response(text="ready\n")

    async def _numbers(self, request: web.Request) -> web.Response:
        if not _is_from_here(request):
            return web.Response(status=403, text="metrics are for programs on this machine\n")
        return web.Response(body=await self._metrics.text(), headers={"Content-Type": Metrics.CONTENT_TYPE})


def _is_from_here(request: web.Request) -> bool:
    """Whether a program on this machine asks, and for itself: no proxy that passes on what others ask."""
    if any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ip_address(request.remote or "").is_loopback
    except ValueError:
        return False
