"""What all pages have in common: who may see one, doing an operation on their behalf, and answering with a template."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, quote

from aiohttp import web

from host.access.standing import standing_of
from host.central import sign_ins
from host.central.audit import Actor, acting
from host.fair_threads import FairThreads
from host.operations import registry
from host.services import Services
from host.web import guard, templates
from host.web.assets import Assets
from host.web.visitor import Visitor, csrf_of
from shared_schema.clock import from_text, to_text
from shared_schema.errors import Conflict, DumbwaiterError, InvalidValue, NotFound

log = logging.getLogger(__name__)

Handler = Callable[[web.Request, Visitor], Awaitable[web.StreamResponse]]
VISITOR = web.RequestKey("visitor", Visitor)
_STATUS: Mapping[type[DumbwaiterError], int] = {InvalidValue: 400, NotFound: 404, Conflict: 409}
_NOT_SIGNED_IN = (
    "not signed in: `dumbwaiter web` prints a link that signs a browser in; "
    "a program calls the paths of docs/api.md, with a token"
)
_SEEN_SECONDS = 60.0
_LONGEST_TOKEN = 200
_FORM_SECONDS = 20.0
_THREADS = 2
FORM_BYTES = 1024**2


class Who(Enum):
    """Who may see a page."""

    SIGNED_IN = "signed in"
    OWNER = "owner"


class Site:
    """The pages of one host. Routes are added here alone, so that each of them says who may see it."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._settings = services.settings.web
        self.assets = Assets()
        self.routes: list[web.RouteDef] = []
        self.cookie = f"dumbwaiter-{services.central.install_id.removeprefix('ins_')[:8]}"
        self._tasks: set[asyncio.Task[Any]] = set()
        self._threads = FairThreads(_THREADS, "pages")

    def origin(self, request: web.Request) -> str:
        """What the browser calls this page in `Origin`: its address without a path.

        Behind a proxy that has the certificate, the host itself is asked without TLS.
        """
        host = request.headers.get("Host", "")
        url = self._settings.url
        if url is not None and host.lower() == url.partition("://")[2]:
            return url
        return guard.origin_of(host, is_tls=self._settings.certificate is not None)

    def is_tls(self, request: web.Request) -> bool:
        """Whether the browser speaks TLS, so that a cookie may ask for it."""
        return self.origin(request).startswith("https:")

    def set_cookie(self, request: web.Request, answer: web.Response, token: str, lasts: timedelta) -> None:
        """Give a browser the cookie of its sign-in."""
        answer.set_cookie(
            self.cookie,
            token,
            max_age=int(lasts.total_seconds()),
            path="/",
            httponly=True,
            samesite="Strict",
            secure=self.is_tls(request),
        )

    def sign_in_page(
        self, request: web.Request, *, status: int = 200, error: str | None = None, user: str | None = None
    ) -> web.Response:
        """The page to sign in on, and why it did not go well."""
        oidc = self._settings.oidc
        label = None if oidc is None else oidc.label
        return self.page(request, "sign_in.html", status=status, error=error, user=user, label=label)

    def get(self, path: str, who: Who, handler: Handler) -> None:
        """Add a page."""
        self.routes.append(web.get(path, self._guarded(who, handler), allow_head=False))

    def post(self, path: str, who: Who, handler: Handler) -> None:
        """Add something that changes; it needs the token against forged requests."""
        self.routes.append(web.post(path, self._guarded(who, handler)))

    def _guarded(self, who: Who, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            visitor = await self.visitor(request)
            if visitor is None:
                return self._not_signed_in(request)
            request[VISITOR] = visitor
            if who is Who.OWNER and not visitor.is_owner:
                raise NotFound("there is no such page")  # nor are others told that there is one
            if request.method not in guard.SAFE:
                given = request.headers.get("X-CSRF-Token")
                if given is None and request.content_type == "application/x-www-form-urlencoded":
                    given = (await form(request)).get("csrf", "")
                if not visitor.knows(given):
                    raise web.HTTPForbidden(text="this form is too old, or not one of this page's: load the page again")
            return await handler(request, visitor)

        return handle

    async def visitor(self, request: web.Request) -> Visitor | None:
        """Who looks at the page; None: no browser that is signed in."""
        found = await self._signed_in(request)
        if found is None:
            return None
        visitor, last_seen = found
        if (self.services.clock.now() - from_text(last_seen)).total_seconds() > _SEEN_SECONDS:
            await self.services.central.write(sign_ins.seen, visitor.sign_in_id)
        return visitor

    async def is_still(self, request: web.Request, visitor: Visitor) -> bool:
        """Whether a browser that was answered before is still signed in, and its user has the roles of then."""
        found = await self._signed_in(request)
        return found is not None and found[0].standing == visitor.standing

    async def _signed_in(self, request: web.Request) -> tuple[Visitor, str] | None:
        """Who that is, and when the browser was here last."""
        token = request.cookies.get(self.cookie, "")
        if not token or len(token) > _LONGEST_TOKEN:
            return None
        now = self.services.clock.now()

        def load(connection: Any) -> tuple[Any, Any]:
            found = sign_ins.of_token(connection, token, to_text(now))
            return found, None if found is None else standing_of(connection, found.user_id)

        found, standing = await self.services.central.read(load)
        if found is None or not standing.is_known:  # who has lost all roles has nothing to see
            return None
        return Visitor(found.id, standing, csrf_of(token)), found.last_seen

    def _not_signed_in(self, request: web.Request) -> web.StreamResponse:
        if request.method in guard.SAFE and wants_page(request):
            return back_to("/sign-in")
        return web.Response(status=401, text=_NOT_SIGNED_IN)

    async def do(self, visitor: Visitor, operation: str, /, **parameters: Any) -> Any:
        """Do an operation on a visitor's behalf; parameters that are None are not given. Raises what it raises."""
        given = {name: value for name, value in parameters.items() if value is not None}
        # A task takes over who acts from where it is made; what was begun is done to its end when the browser leaves.
        with acting(Actor(visitor.user, "web")):
            task = asyncio.create_task(registry.call(self.services, operation, given))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        result = await asyncio.shield(task)
        if registry.changes(operation, given):
            log.info("something was changed", extra={"operation": operation, "by": visitor.user})
        return result

    def follow(self, operation: str, /, **parameters: Any) -> AsyncIterator[dict[str, Any]]:
        """A stream of objects of an operation."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return registry.stream(self.services, operation, given)

    def language(self, request: web.Request) -> str:
        """The language for a browser."""
        return templates.language_of(request.headers.get("Accept-Language", ""))

    def render(self, request: web.Request, template: str, **values: Any) -> str:
        """A template as text."""
        visitor = request.get(VISITOR)
        theme = request.cookies.get("theme", "")
        return templates.render(
            template,
            self.language(request),
            visitor=visitor,
            asset=self.assets.url,
            path=request.path,
            theme=theme if theme in ("dark", "light") else "",
            **values,
        )

    def page(self, request: web.Request, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """A template as an answer."""
        return web.Response(
            text=self.render(request, template, **values),
            status=status,
            content_type="text/html",
            headers={"Cache-Control": "no-store"},
        )

    async def made_page(
        self, request: web.Request, template: str, made: Callable[[], dict[str, Any]], **values: Any
    ) -> web.Response:
        """A template as an answer, with more values that are `made` of what agents wrote.

        There can be much of it, and the loop is everyone's: it is done in a thread, of each visitor one page at a time.
        """
        visitor = request.get(VISITOR)
        owner = None if visitor is None else visitor.user
        return await self._threads.run(owner, lambda: self.page(request, template, **values, **made()))

    def failed(self, request: web.Request, error: DumbwaiterError) -> web.Response:
        """An error as an answer: a page for who looks at pages, JSON for a script."""
        status = _STATUS.get(type(error), 500)
        if wants_page(request):
            return self.page(request, "error.html", status=status, what=error.what, hint=error.hint)
        return web.json_response({"what": error.what, "hint": error.hint}, status=status)

    async def close(self) -> None:
        """Wait a moment for what is under way."""
        await asyncio.to_thread(self._threads.close)
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=1.0)


def wants_page(request: web.Request) -> bool:
    """Whether a browser wants to show the answer as a page."""
    return "text/html" in request.headers.get("Accept", "")


async def form(request: web.Request) -> dict[str, str]:
    """The texts of a form. Raises `InvalidValue` for what is none, or does not come in time.

    Browsers send what the page is written in. The charset that a request names is not asked for: who has not signed in
    could choose one in which a megabyte holds up the host for minutes.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        return {}
    try:
        async with asyncio.timeout(_FORM_SECONDS):
            fields = parse_qsl((await request.read()).decode(), keep_blank_values=True)
    except TimeoutError as error:
        raise InvalidValue(f"the form did not come within {_FORM_SECONDS:g} seconds") from error
    except (ValueError, web.RequestPayloadError) as error:
        raise InvalidValue("this is not a form") from error
    return dict(fields)


def back_to(path: str) -> web.Response:
    """What follows a form: another page of ours."""
    return web.Response(status=303, headers={"Location": path})


def segment(text: str) -> str:
    """A text as one segment of a path."""
    return quote(text, safe="")
