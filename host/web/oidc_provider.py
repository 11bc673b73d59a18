"""Asking an OpenID Connect provider: what it offers, its keys, and what it says of a person who was there.

Everything that comes back is checked before it is believed: a provider, or who sits between, may be wrong or lie.
Redirects are not followed, answers are bounded in size and time, and nothing is asked but over TLS or on this machine.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp

from host.web import id_token
from host.web.id_token import BadIdToken, KeyUnknown
from host.web_settings import OidcSetting, is_safe_url
from shared_schema import json_text
from shared_schema.clock import Clock
from shared_schema.dataclass import dataclass

_LARGEST = 1024**2
_TIMEOUT = aiohttp.ClientTimeout(total=15)
_KEPT_SECONDS = 3600.0
_AGAIN_SECONDS = 30.0
"""Keys are asked for again so often at most, when one is not known."""


class ProviderFailed(Exception):
    """The provider cannot be asked, or what it says cannot be believed. The text is for the log, without secrets."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a provider offers, as its discovery document says."""

    authorization: str
    token: str
    keys: str
    userinfo: str | None
    methods: tuple[str, ...]
    names_itself: bool


class OidcProvider:
    """One provider, asked when a person signs in."""

    def __init__(self, setting: OidcSetting, clock: Clock) -> None:
        self._setting = setting
        self._clock = clock
        self._offer: Offer | None = None
        self._offered_at = 0.0
        self._keys: list[object] = []
        self._keys_at: float | None = None
        self._asking = asyncio.Lock()

    async def offer(self) -> Offer:
        """What it offers; kept for an hour. Raises `ProviderFailed`."""
        async with self._asking:
            if self._offer is None or self._clock.monotonic() - self._offered_at > _KEPT_SECONDS:
                url = f"{self._setting.issuer.rstrip('/')}/.well-known/openid-configuration"
                self._offer = _read_offer(await self._get(url), self._setting.issuer)
                self._offered_at = self._clock.monotonic()
            return self._offer

    async def address(self, *, redirect: str, state: str, nonce: str, challenge: str) -> str:
        """Where to send a browser. Raises `ProviderFailed`."""
        offer = await self.offer()
        scopes = dict.fromkeys(("openid", *self._setting.scopes))
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self._setting.client_id,
                "redirect_uri": redirect,
                "scope": " ".join(scopes),
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        return f"{offer.authorization}{'&' if urlsplit(offer.authorization).query else '?'}{query}"

    async def claims(self, *, code: str, redirect: str, verifier: str, nonce: str) -> dict[str, Any]:
        """What it says of the person who brought a code. Raises `ProviderFailed`."""
        offer = await self.offer()
        given = await self._exchange(offer, code, redirect, verifier)
        token = given.get("id_token")
        if not isinstance(token, str):
            raise ProviderFailed("it gives no id token")
        try:
            claims = await self._verified(offer, token, nonce)
        except BadIdToken as error:
            raise ProviderFailed(f"its id token cannot be believed: {error}") from error
        access = given.get("access_token")
        if offer.userinfo is not None and isinstance(access, str) and self._lacks(claims):
            claims = await self._more(offer.userinfo, access, claims)
        return claims

    def _lacks(self, claims: dict[str, Any]) -> bool:
        """Whether the token leaves out what roles may follow from: many providers tell that only to who asks."""
        first = self._setting.claim.partition(".")[0]
        return bool((self._setting.groups and first not in claims) or (self._setting.people and "email" not in claims))

    async def _verified(self, offer: Offer, token: str, nonce: str) -> dict[str, Any]:
        try:
            return self._check(await self._known_keys(offer, fresh=False), token, nonce)
        except KeyUnknown:  # providers change their keys, and some give the new one no name or the old one's
            return self._check(await self._known_keys(offer, fresh=True), token, nonce)

    def _check(self, keys: list[object], token: str, nonce: str) -> dict[str, Any]:
        setting = self._setting
        return id_token.verified(
            token, keys, issuer=setting.issuer, client_id=setting.client_id, nonce=nonce, now=self._clock.now()
        )

    async def _known_keys(self, offer: Offer, *, fresh: bool) -> list[object]:
        async with self._asking:
            # Counted from the last question, also one that failed: a sign-in with nonsense does not ask again sooner.
            age = None if self._keys_at is None else self._clock.monotonic() - self._keys_at
            if age is None or age > (_AGAIN_SECONDS if fresh else _KEPT_SECONDS):
                if fresh:
                    self._keys_at = self._clock.monotonic()
                found = (await self._get(offer.keys)).get("keys")
                if not isinstance(found, list):
                    raise ProviderFailed("its keys are no list")
                self._keys, self._keys_at = found, self._clock.monotonic()
            return self._keys

    async def _exchange(self, offer: Offer, code: str, redirect: str, verifier: str) -> dict[str, Any]:
        setting = self._setting
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect, "code_verifier": verifier}
        headers = {"Accept": "application/json"}
        secret = None if setting.client_secret is None else setting.client_secret.get_secret_value()
        if secret is not None and "client_secret_basic" in offer.methods:
            # RFC 6749, 2.3.1: both are encoded as in a form before they become user and password
            pair = f"{quote(setting.client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": setting.client_id, **({} if secret is None else {"client_secret": secret})}
        return await self._ask("POST", offer.token, headers=headers, data=form)

    async def _more(self, url: str, access: str, claims: dict[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {access}", "Accept": "application/json"}
        more = await self._ask("GET", url, headers=headers)
        if more.get("sub") != claims.get("sub"):  # OpenID Connect Core 1.0, 5.3.2
            raise ProviderFailed("it speaks of another person when it is asked again")
        return {**more, **claims}

    async def _get(self, url: str) -> dict[str, Any]:
        return await self._ask("GET", url, headers={"Accept": "application/json"})

    async def _ask(self, method: str, url: str, **how: Any) -> dict[str, Any]:
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True) as session,
                session.request(method, url, allow_redirects=False, **how) as answer,
            ):
                body = await answer.content.read(_LARGEST + 1)
                while len(body) <= _LARGEST and (piece := await answer.content.read(_LARGEST)):
                    body += piece
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ProviderFailed(f"it does not answer at {_place(url)}: {type(error).__name__}") from error
        if status != 200 or len(body) > _LARGEST:
            raise ProviderFailed(f"it answers {status} at {_place(url)}{_reason(body)}")
        try:
            found = json_text.parse(body)
        except ValueError as error:
            raise ProviderFailed(f"it answers no JSON at {_place(url)}") from error
        if not isinstance(found, dict):
            raise ProviderFailed(f"it answers no object at {_place(url)}")
        return found


def _read_offer(found: dict[str, Any], issuer: str) -> Offer:
    if found.get("issuer") != issuer:  # a provider that speaks for another one (mix-up)
        raise ProviderFailed("it names itself otherwise than `issuer` below [web.oidc] does")
    urls = {name: found.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
    userinfo = found.get("userinfo_endpoint")
    for name, url in (urls | ({} if userinfo is None else {"userinfo_endpoint": userinfo})).items():
        if not isinstance(url, str) or not is_safe_url(url):
            raise ProviderFailed(f"its {name} is no https address")
    offered = found.get("id_token_signing_alg_values_supported", ["RS256"])
    if not isinstance(offered, list) or not id_token.algorithms([str(each) for each in offered]):
        raise ProviderFailed("it signs in no way that is taken here")
    methods = found.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return Offer(
        str(urls["authorization_endpoint"]),
        str(urls["token_endpoint"]),
        str(urls["jwks_uri"]),
        userinfo,
        tuple(str(each) for each in methods) if isinstance(methods, list) else (),
        found.get("authorization_response_iss_parameter_supported") is True,
    )


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"[:200]


def _reason(body: bytes) -> str:
    """OAuth's word for what is wrong, such as `invalid_client`."""
    try:
        said = json_text.parse(body)
    except ValueError:
        return ""
    error = said.get("error") if isinstance(said, dict) else None
    return f" ({error[:60]})" if isinstance(error, str) and error.isascii() and error.isprintable() else ""
