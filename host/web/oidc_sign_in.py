"""Signing in through the team's OpenID Connect provider: the code flow with PKCE, and roles from what it says.

A sign-in that is under way is bound to its browser by a cookie, holds for ten minutes, and is used up by its first
answer: an answer that comes again, or in another browser, or from another provider, signs no one in.

The cookie of a person's session is `SameSite=Strict`, so a browser that comes from the provider does not send it. The
answer is therefore a page of ours that goes on to the first page by itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import secrets
import time
from collections import OrderedDict
from datetime import timedelta
from typing import Any

from aiohttp import web

from host.access import provider_roles
from host.access.standing import standing_of
from host.central import audit, sign_ins, users
from host.central.database import Transaction
from host.channels.browser import CHANNEL_TYPE
from host.web.oidc_provider import OidcProvider, ProviderFailed
from host.web.sign_in import AttemptLimit
from host.web.site import Site
from host.web_settings import OidcSetting
from shared_schema.clock import to_text
from shared_schema.dataclass import dataclass

log = logging.getLogger(__name__)

PATH = "/sign-in/provider"
BACK = f"{PATH}/back"
_LASTS_SECONDS = 600.0
_MOST = 1000
_LONGEST = 4_000


@dataclass(frozen=True, slots=True)
class _UnderWay:
    browser: str
    nonce: str
    verifier: str
    redirect: str
    until: float


class ProviderSignIn:
    """Two paths: to the provider, and back from it."""

    def __init__(self, site: Site, setting: OidcSetting, limit: AttemptLimit) -> None:
        self._site = site
        self._setting = setting
        self._limit = limit
        self._provider = OidcProvider(setting, site.services.clock)
        self._under_way: OrderedDict[str, _UnderWay] = OrderedDict()
        self._cookie = f"{site.cookie}-sign-in"
        site.routes.append(web.get(PATH, self._leave, allow_head=False))
        site.routes.append(web.get(BACK, self._back, allow_head=False))

    async def _leave(self, request: web.Request) -> web.StreamResponse:
        """To the provider."""
        site = self._site
        if not self._limit.allows(request.remote or "", time.monotonic()):
            return site.sign_in_page(request, status=429, error="many")
        state, browser, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(4))
        redirect = f"{site.origin(request)}{BACK}"
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        try:
            address = await self._provider.address(redirect=redirect, state=state, nonce=nonce, challenge=challenge)
        except ProviderFailed as error:
            return self._failed(request, error)
        self._note(state, _UnderWay(browser, nonce, verifier, redirect, time.monotonic() + _LASTS_SECONDS))
        answer = web.Response(status=303, headers={"Location": address})
        answer.set_cookie(
            self._cookie,
            browser,
            max_age=int(_LASTS_SECONDS),
            path=PATH,
            httponly=True,
            samesite="Lax",  # it has to come along from the provider
            secure=site.is_tls(request),
        )
        return answer

    async def _back(self, request: web.Request) -> web.StreamResponse:
        """Back from the provider."""
        site, query = self._site, request.query
        under_way = self._take(query.get("state", ""))
        given = request.cookies.get(self._cookie, "").encode("utf-8", "replace")
        if under_way is None or not hmac.compare_digest(given, under_way.browser.encode()):
            return site.sign_in_page(request, status=403, error="again")
        try:
            self._require_issuer(query.get("iss"), names_itself=(await self._provider.offer()).names_itself)
            if "error" in query:
                return site.sign_in_page(request, status=403, error="refused")
            code = query.get("code", "")
            if not 0 < len(code) <= _LONGEST:
                raise ProviderFailed("it sends no code")
            claims = await self._provider.claims(
                code=code, redirect=under_way.redirect, verifier=under_way.verifier, nonce=under_way.nonce
            )
            named = provider_roles.handle(self._setting.issuer, claims.get("sub"))
            if named is None:
                raise ProviderFailed("it names a person in a way that cannot be used")
        except ProviderFailed as error:
            return self._failed(request, error)
        user = users.user_id(CHANNEL_TYPE, named)
        lasts = timedelta(hours=self._setting.hours)
        cookie = await site.services.central.write(
            self._enter, user, claims, request.headers.get("User-Agent", ""), lasts
        )
        if cookie is None:
            log.info("a person without a role wanted to sign in", extra={"user": user})
            return site.sign_in_page(request, status=403, error="stranger", user=user)
        answer = site.page(request, "signed_in.html")
        site.set_cookie(request, answer, cookie, lasts)
        answer.del_cookie(self._cookie, path=PATH)
        return answer

    def _enter(self, tx: Transaction, user: str, claims: dict[str, Any], browser: str, lasts: timedelta) -> str | None:
        setting = self._setting
        roles = provider_roles.roles_for(claims, claim=setting.claim, groups=setting.groups, people=setting.people)
        with audit.acting(audit.Actor(user, "web")):
            provider_roles.keep(tx, user, provider_roles.person_name(claims), roles)
            if not standing_of(tx, user).is_known:
                return None
            audit.record(tx, "web.sign_in", user, after={"browser": browser[:100], "provider": setting.issuer})
            return sign_ins.sign_in(tx, user, browser, to_text(self._site.services.clock.now() + lasts))

    def _require_issuer(self, said: str | None, *, names_itself: bool) -> None:
        """RFC 9207: an answer says whose it is, so that no other provider's is taken for it."""
        if (said is not None or names_itself) and said != self._setting.issuer:
            raise ProviderFailed("the answer is another provider's")

    def _note(self, state: str, under_way: _UnderWay) -> None:
        now = time.monotonic()
        while self._under_way and (len(self._under_way) >= _MOST or next(iter(self._under_way.values())).until <= now):
            self._under_way.popitem(last=False)
        self._under_way[state] = under_way

    def _take(self, state: str) -> _UnderWay | None:
        found = self._under_way.pop(state, None)
        return found if found is not None and found.until > time.monotonic() else None

    def _failed(self, request: web.Request, error: ProviderFailed) -> web.StreamResponse:
        log.warning(
            "the sign-in provider cannot be used", extra={"provider": self._setting.issuer, "reason": str(error)}
        )
        return self._site.sign_in_page(request, status=502, error="provider")
