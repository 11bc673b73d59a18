"""The web server: one aiohttp application, whose routers are the pages, the files beside them, the API, and health.

Invariant: every answer carries the headers of `guard`; a request that names another host, or changes
something from another site, gets no further than here.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from aiohttp import web

from host.http_api.api import api_of
from host.services import Services
from host.web import guard
from host.web.health import PROBES, HealthRoutes
from host.web.live import LiveStreams
from host.web.pages.chat import ChatPages
from host.web.pages.overview import OverviewPages
from host.web.pages.records import RecordPages
from host.web.pages.schedules import SchedulePages
from host.web.pages.sessions import SessionPages
from host.web.sign_in import SignInPages
from host.web.site import FORM_BYTES, Site, wants_page
from shared_schema.errors import DumbwaiterError, NotFound

log = logging.getLogger(__name__)

_IDLE_SECONDS = 30.0
Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebServer:
    """Serves the page of one host until it is closed."""

    def __init__(self, services: Services) -> None:
        self._settings = services.settings.web
        self._names = guard.names(self._settings.address, self._settings.hosts)
        self._site = Site(services, is_tls=self._settings.certificate is not None)
        live = LiveStreams(self._site)
        SignInPages(self._site)
        OverviewPages(self._site)
        ChatPages(self._site, live)
        SessionPages(self._site)
        RecordPages(self._site)
        SchedulePages(self._site)
        application = web.Application(client_max_size=FORM_BYTES, middlewares=[self._answer])
        application.router.add_routes(self._site.routes)
        self._api = api_of(services)
        application.router.add_routes(self._api.routes)
        application.router.add_routes(HealthRoutes(services).routes)
        application.router.add_get("/static/{path:.+}", self._site.assets.serve)
        application.on_response_prepare.append(_with_headers)  # of streams as well
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=1.0,
            keepalive_timeout=_IDLE_SECONDS,
        )

    async def start(self) -> str:
        """Listen; the address for browsers. Raises `DumbwaiterError` when that is impossible."""
        settings = self._settings
        context = self._tls()
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, settings.address, settings.port, ssl_context=context)
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise DumbwaiterError(
                f"the page cannot listen on {settings.address}, port {settings.port}: {error.strerror or error}",
                hint="choose another port: `port` below [web] in dumbwaiter.toml, then restart the host",
            ) from error
        port = self._runner.addresses[0][1]
        is_local = _is_local(settings.address)
        if not is_local and context is None:
            log.warning(
                "the page is open to the network without TLS: who listens there can take over a sign-in; "
                "set `certificate` below [web], or put a proxy with TLS before it",
                extra={"address": settings.address, "port": port},
            )
        name = "127.0.0.1" if is_local else next(iter(settings.hosts), settings.address)
        if ":" in name:
            name = f"[{name}]"
        address = f"{'http' if context is None else 'https'}://{name}:{port}"
        log.info("the page is served", extra={"address": address})
        return address

    async def close(self) -> None:
        """Stop listening, and end the streams."""
        await self._runner.cleanup()
        await self._site.close()

    def _tls(self) -> ssl.SSLContext | None:
        settings = self._settings
        if settings.certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(settings.certificate, settings.key)
        except (OSError, ssl.SSLError) as error:
            raise DumbwaiterError(
                f"the TLS certificate of the page cannot be used: {error}",
                where=settings.certificate,
                hint="mend `certificate` and `key` below [web] in dumbwaiter.toml",
            ) from error
        return context

    @web.middleware
    async def _answer(self, request: web.Request, handler: Next) -> web.StreamResponse:
        if self._api.owns(request.path):
            host = request.headers.get("Host", "")
            is_own, origin = guard.is_own_host(host, self._names), guard.origin_of(host, is_tls=self._site.is_tls)
            return await self._api.answer(request, handler, is_own_host=is_own, origins=(origin,))
        try:
            response = await self._admitted(request, handler)
        except web.HTTPException as error:  # it is an answer, but aiohttp wants no such thing to be returned
            kept = {name: error.headers[name] for name in ("Location", "Allow") if name in error.headers}
            response = web.Response(status=error.status, text=error.text, headers=kept)
        except DumbwaiterError as error:
            response = self._site.failed(request, error)
        except (asyncio.CancelledError, ConnectionResetError):
            raise
        except Exception:  # the boundary of one request
            log.exception("a page failed", extra={"path": request.path[:200]})
            unexpected = DumbwaiterError("something unexpected went wrong", hint="the host's log says more")
            response = self._site.failed(request, unexpected)
        if response.status == 404 and not response.prepared and wants_page(request):
            response = self._site.failed(request, NotFound("there is no such page"))
        return response

    async def _admitted(self, request: web.Request, handler: Next) -> web.StreamResponse:
        headers = request.headers
        host = headers.get("Host", "")
        if not guard.is_own_host(host, self._names) and request.path not in PROBES:
            hint = "`hosts` below [web] in dumbwaiter.toml names the names under which browsers reach it"
            return web.Response(status=421, text=f"this name is not one of this page's: {hint}")
        if request.method not in guard.SAFE and not guard.is_own_origin(
            headers.get("Origin"), headers.get("Sec-Fetch-Site"), host, is_tls=self._site.is_tls
        ):
            return web.Response(status=403, text="this did not come from the page itself")
        if "Content-Encoding" in headers:  # aiohttp waits for ever for the end of one that turns out to be broken
            return web.Response(status=415, text="the body is compressed, and must not be")
        return await handler(request)


async def _with_headers(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in guard.HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.pop("Server", None)


def _is_local(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
