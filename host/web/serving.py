"""Serving the page of a host and its API: from the first link or token on, and from its start while there is one.

Nothing of them, and no library that it needs, is imported before that.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from host.central import sign_ins, tokens
from host.services import Services
from shared_schema.clock import to_text
from shared_schema.errors import Conflict, DumbwaiterError
from shared_schema.provisions import how_to_install_extra

if TYPE_CHECKING:
    from host.web.server import WebServer

log = logging.getLogger(__name__)


class WebExtraMissing(DumbwaiterError):
    """What the page needs is not installed."""


@asynccontextmanager
async def serving_page(services: Services) -> AsyncIterator[None]:
    """Serve the page when it is asked for, until the block ends. That it cannot be served stops no host."""
    servers: list[WebServer] = []

    async def serve() -> str:
        if services.settings.web.enabled == "off":
            hint = 'set `enabled = "auto"` below [web] in dumbwaiter.toml, then restart the host'
            raise Conflict("the page is switched off by a setting", hint=hint)
        server = _make(services)
        address = await server.start()
        servers.append(server)
        return address

    services.page.provider = serve
    try:
        if await _is_wanted(services):
            try:
                await services.page.on()
            except DumbwaiterError as error:
                log.warning("the page is not served", extra={"error": str(error)})
        yield
    finally:
        services.page.provider = services.page.address = None
        for server in servers:
            await server.close()


async def _is_wanted(services: Services) -> bool:
    if services.settings.web.enabled != "auto":
        return services.settings.web.enabled == "on"
    if services.settings.web.oidc is not None:  # people sign in by themselves: no command comes first
        return True
    now = to_text(services.clock.now())
    return await services.central.read(lambda c: sign_ins.has_any(c, now) or tokens.has_any(c, now))


def _make(services: Services) -> WebServer:
    try:
        from host.web.server import WebServer
    except ImportError as error:
        raise WebExtraMissing(
            "what the page needs is not installed", hint=f"`{how_to_install_extra('web')}`, then restart the host"
        ) from error
    return WebServer(services)
