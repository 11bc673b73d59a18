"""The door of the API: routes are added here alone, so that each asks for a token, and each refusal has its form.

A token in `Authorization` is all that counts. No cookie signs a program in, and no token opens a page; a page of
another site, open in a browser, is told nothing: it may not ask (`Origin`), by no name that it gives us (`Host`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from aiohttp import web

from host.central.audit import Actor, acting
from host.central.tokens import Token
from host.http_api.bodies import Bodies
from host.http_api.caller import CALLER, Callers
from host.http_api.errors import UNEXPECTED, CallRefused, Refusal, as_openai, as_problem, headers_of, refusal_of
from host.services import Services
from shared_schema.errors import DumbwaiterError

log = logging.getLogger(__name__)

Handler = Callable[[web.Request, Token], Awaitable[web.StreamResponse]]
Plain = Callable[[web.Request], Awaitable[web.StreamResponse]]
_ROOTS = ("/v1", "/api", "/mcp")
_WHERE = "GET /api/openapi.json lists the paths of /api, and docs/api.md those of /v1"
_SAID = {404: "there is nothing at this path", 405: "this path does not take that method"}


class Access:
    """The routes of the API of one host, and how each of them answers."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.callers = Callers(services)
        self.bodies = Bodies()
        self.routes: list[web.RouteDef] = []

    def get(self, path: str, handler: Handler) -> None:
        """Add what is looked at."""
        self.routes.append(web.get(path, self._with_token(handler), allow_head=False))

    def post(self, path: str, handler: Handler) -> None:
        """Add what is asked for, or changed."""
        self.routes.append(web.post(path, self._with_token(handler)))

    def _with_token(self, handler: Handler) -> Plain:
        async def handle(request: web.Request) -> web.StreamResponse:
            token = await self.callers.of(request)
            # Tasks take over who acts from where they are made: what is changed is the token's in the audit log.
            with acting(Actor(f"token {token.name}", "api")):
                return await handler(request, token)

        return handle

    @staticmethod
    def owns(path: str) -> bool:
        """Whether a path is the API's."""
        return any(path == root or path.startswith(f"{root}/") for root in _ROOTS)

    async def answer(
        self, request: web.Request, handler: Plain, *, is_own_host: bool, origins: Collection[str]
    ) -> web.StreamResponse:
        """The answer to a request, or its refusal in the form of its path. `origins` are those of pages of ours."""
        try:
            if not is_own_host:
                hint = "`hosts` below [web] in dumbwaiter.toml names the names under which it is called"
                raise CallRefused(Refusal(421, "this name is not one of this host's", hint, "unknown_host"))
            origin = request.headers.get("Origin")
            if origin is not None and origin.lower() not in origins:
                raise CallRefused(Refusal(403, "pages of other sites may not call this", None, "foreign_origin"))
            return await handler(request)
        except CallRefused as error:
            return _told(request, error.refusal)
        except web.HTTPException as error:
            what = _SAID.get(error.status, error.reason)
            allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            return _told(request, Refusal(error.status, what, _WHERE, "not_possible", headers=allowed))
        except DumbwaiterError as error:
            refusal = refusal_of(error)
            if refusal.status >= 500:
                log.warning("a call failed", extra={"path": request.path[:200], "error": str(error)})
            return _told(request, refusal)
        except (asyncio.CancelledError, ConnectionResetError):
            raise
        except Exception:  # the boundary of one request
            log.exception("a call failed", extra={"path": request.path[:200]})
            return _told(request, UNEXPECTED)


def _told(request: web.Request, refusal: Refusal) -> web.Response:
    token = request.get(CALLER)
    if refusal.status in (401, 403):
        by = None if token is None else token.name
        log.warning("a call was refused", extra={"path": request.path[:200], "by": by, "reason": refusal.what})
    headers = headers_of(refusal)
    if request.path.startswith("/v1/"):
        return web.json_response(as_openai(refusal), status=refusal.status, headers=headers)
    return web.json_response(
        as_problem(refusal), status=refusal.status, headers=headers, content_type="application/problem+json"
    )
