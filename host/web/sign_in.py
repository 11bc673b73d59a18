"""Signing in: a link from the command line, taken once, becomes the cookie of one browser.

The token of a link stands behind its `#`, so that it is in no server's log and in no `Referer`; the page's script hands
it in. A link that was only looked at, by a mail program or a preview, is still good.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque

from aiohttp import web

from host.central import audit, sign_ins
from host.central.database import Transaction
from host.operations.web import SIGN_IN_LASTS
from host.web.site import Site, Who, back_to, form
from host.web.visitor import Visitor
from shared_schema.clock import to_text

_SECONDS = 60.0
_PER_ADDRESS = 10
_IN_ALL = 60
_MOST_ADDRESSES = 1000
_LONGEST_TOKEN = 100


class AttemptLimit:
    """How often a sign-in may be tried in a minute: so often from one address, and so often in all."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def allows(self, address: str, now: float) -> bool:
        """Count an attempt; whether it may be made. `now` is monotonic."""
        return self._take("", _IN_ALL, now) and self._take(address, _PER_ADDRESS, now)

    def _take(self, key: str, most: int, now: float) -> bool:
        times = self._times.setdefault(key, deque(maxlen=most))
        self._times.move_to_end(key)
        while len(self._times) > _MOST_ADDRESSES:
            self._times.popitem(last=False)
        while times and times[0] <= now - _SECONDS:
            times.popleft()
        if len(times) == most:
            return False
        times.append(now)
        return True


class SignInPages:
    """Coming in, and going out."""

    def __init__(self, site: Site, limit: AttemptLimit) -> None:
        self._site = site
        self._limit = limit
        site.routes.append(web.get("/sign-in", self._look, allow_head=False))
        site.routes.append(web.post("/sign-in", self._enter))
        site.post("/sign-out", Who.SIGNED_IN, self._leave)
        site.get("/account", Who.SIGNED_IN, self._account)
        site.post("/account/sign-out", Who.SIGNED_IN, self._sign_out_other)

    async def _look(self, request: web.Request) -> web.StreamResponse:
        return self._site.sign_in_page(request)

    async def _enter(self, request: web.Request) -> web.StreamResponse:
        site = self._site
        if not self._limit.allows(request.remote or "", time.monotonic()):
            return site.sign_in_page(request, status=429, error="many")
        token = (await form(request)).get("token", "")
        until = site.services.clock.now() + SIGN_IN_LASTS

        def take(tx: Transaction) -> str | None:
            user = sign_ins.take(tx, token)
            if user is None:
                return None
            browser = request.headers.get("User-Agent", "")
            cookie = sign_ins.sign_in(tx, user, browser, to_text(until))
            with audit.acting(audit.Actor(user, "web")):
                audit.record(tx, "web.sign_in", user, after={"browser": browser[:100]})
            return cookie

        cookie = await site.services.central.write(take) if 0 < len(token) <= _LONGEST_TOKEN else None
        if cookie is None:
            return site.sign_in_page(request, status=403, error="used")
        answer = back_to("/")
        site.set_cookie(request, answer, cookie, SIGN_IN_LASTS)
        return answer

    async def _leave(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        await self._site.do(visitor, "web.sign_out", id=visitor.sign_in_id)
        answer = back_to("/sign-in")
        answer.del_cookie(self._site.cookie, path="/")
        return answer

    async def _account(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        found = await self._site.do(visitor, "web.list")
        own = [each for each in found if visitor.is_owner or each["user"] == visitor.user]
        return self._site.page(request, "account.html", sign_ins=own)

    async def _sign_out_other(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        wanted = (await form(request)).get("id", "")
        own = {
            each["id"]
            for each in await self._site.do(visitor, "web.list")
            if visitor.is_owner or each["user"] == visitor.user
        }
        if wanted in own:
            await self._site.do(visitor, "web.sign_out", id=wanted)
        return back_to("/account")
