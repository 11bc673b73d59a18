"""The web server: one aiohttp application, whose routers are the pages, the files beside them, the API, and health.

Invariant: every answer carries the headers of `guard`; a request that names another host, or changes
something from another site, gets no further than here.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import ip_address

from aiohttp import web

from host.http_api.api import api_of
from host.services import Services
from host.web import guard
from host.web.health import PROBES, HealthRoutes
from host.web.live import LiveStreams
from host.web.pages.agents import AgentPages
from host.web.pages.api import PATH as API_PAGE
from host.web.pages.api import ApiPage
from host.web.pages.chat import ChatPages
from host.web.pages.overview import OverviewPages
from host.web.pages.people import PeoplePages
from host.web.pages.records import RecordPages
from host.web.pages.schedules import SchedulePages
from host.web.pages.sessions import SessionPages
from host.web.sign_in import AttemptLimit, SignInPages
from host.web.site import FORM_BYTES, Site, wants_page
from host.web_settings import OidcSetting
from shared_schema.errors import DumbwaiterError, NotFound
from shared_schema.provisions import how_to_install_extra
from shared_schema.system_errors import words_of

log = logging.getLogger(__name__)

_IDLE_SECONDS = 30.0
RENEWED_SECONDS = 10.0
"""How often the files of the certificate are looked at."""
Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebServer:
    """Serves the page of one host until it is closed."""

    def __init__(self, services: Services) -> None:
        self._settings = services.settings.web
        self._names = guard.names(self._settings.address, self._settings.hosts, self._settings.url)
        self._site = Site(services)
        live = LiveStreams(self._site)
        limit = AttemptLimit()
        SignInPages(self._site, limit)
        if self._settings.oidc is not None:
            _add_provider(self._site, self._settings.oidc, limit)
        OverviewPages(self._site)
        ChatPages(self._site, live)
        SessionPages(self._site)
        AgentPages(self._site)
        PeoplePages(self._site)
        RecordPages(self._site)
        SchedulePages(self._site)
        ApiPage(self._site)
        application = web.Application(client_max_size=FORM_BYTES, middlewares=[self._answer])
        application.router.add_routes(self._site.routes)
        self._api = api_of(services)
        application.router.add_routes(self._api.routes)
        application.router.add_routes(HealthRoutes(services).routes)
        application.router.add_get("/static/{path:.+}", self._site.assets.serve)
        application.on_response_prepare.append(_with_headers)  # of streams as well
        self._renewing: asyncio.Task[None] | None = None
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
        if context is not None and settings.certificate is not None:
            self._renewing = asyncio.create_task(self._renew(context), name="the page's certificate")
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, settings.address, settings.port, ssl_context=context)
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise DumbwaiterError(
                f"the page cannot listen on {settings.address}, port {settings.port}: {_because(error)}",
                hint="choose another port: `port` below [web] in dumbwaiter.toml, then restart the host",
            ) from error
        port = self._runner.addresses[0][1]
        is_local = _is_local(settings.address)
        if not is_local and context is None and settings.url is None:
            log.warning(
                "the page is open to the network without TLS: who listens there can take over a sign-in; "
                "set `certificate` below [web], or put a proxy with TLS before it and say so with `url`",
                extra={"address": settings.address, "port": port},
            )
        name = "127.0.0.1" if is_local else next(iter(settings.hosts), settings.address)
        if ":" in name:
            name = f"[{name}]"
        address = settings.url or f"{'http' if context is None else 'https'}://{name}:{port}"
        log.info("the page is served", extra={"address": address})
        return address

    async def close(self) -> None:
        """Stop listening, and end the streams."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        await self._runner.cleanup()
        await self._site.close()

    def _tls(self) -> ssl.SSLContext | None:
        if self._settings.certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        settings = self._settings
        assert settings.certificate is not None
        try:
            context.load_cert_chain(settings.certificate, settings.key)
        except (OSError, ssl.SSLError) as error:
            raise DumbwaiterError(
                f"the TLS certificate of the page cannot be used: {words_of(error)}",
                where=settings.certificate,
                hint="mend `certificate` and `key` below [web] in dumbwaiter.toml",
            ) from error

    async def _renew(self, context: ssl.SSLContext) -> None:
        """Take a certificate that was renewed, for connections from then on; one that cannot be used is logged."""
        known = await asyncio.to_thread(self._files)
        while True:
            await asyncio.sleep(RENEWED_SECONDS)
            found = await asyncio.to_thread(self._files)
            if found == known:
                continue
            known = found  # a file that is being written is looked at again when it is whole: its time changes
            try:
                self._load(context)
                log.info("the page has a new certificate")
            except DumbwaiterError as error:
                log.warning("the page keeps its certificate", extra={"error": str(error)})

    def _files(self) -> list[tuple[int, int, int]]:
        """What changes when a file is replaced."""
        found = []
        for path in (self._settings.certificate, self._settings.key):
            with suppress(OSError):
                if path is not None:
                    stat = path.stat()
                    found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return found

    @web.middleware
    async def _answer(self, request: web.Request, handler: Next) -> web.StreamResponse:
        if self._api.owns(request.path) and request.path != API_PAGE:  # which is a page, for people
            host = request.headers.get("Host", "")
            is_own, origin = guard.is_own_host(host, self._names), self._site.origin(request)
            return await self._api.answer(request, handler, is_own_host=is_own, origins=(origin,))
        try:
            response = await self._admitted(request, handler)
        except web.HTTPException as error:  # it is an answer, but aiohttp wants no such thing to be returned
            kept = {name: error.headers[name] for name in ("Location", "Allow") if name in error.headers}
            response = web.Response(status=error.status, text=error.text, headers=kept)
        except DumbwaiterError as error:
            response = self._site.failed(request, error)
            if response.status == 500:
                log.warning("a page cannot be shown", extra={"path": request.path[:200], "error": str(error)})
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
            headers.get("Origin"), headers.get("Sec-Fetch-Site"), self._site.origin(request)
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


def _add_provider(site: Site, setting: OidcSetting, limit: AttemptLimit) -> None:
    try:
        from host.web.oidc_sign_in import ProviderSignIn
    except ImportError as error:
        raise DumbwaiterError(
            "what signing in through a provider needs is not installed",
            hint=f"`{how_to_install_extra('oidc')}`, then restart the host; or take away [web.oidc] in dumbwaiter.toml",
        ) from error
    ProviderSignIn(site, setting, limit)


def _is_local(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _because(error: OSError) -> str:
    """Why nothing can listen there. What asyncio says of it is a line of its own, with the address in brackets."""
    return "another program listens there" if error.errno == errno.EADDRINUSE else words_of(error)
