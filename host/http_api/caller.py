"""Who calls: the token in `Authorization`, what it may do, and how much of it at once. A cookie says nothing here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

from aiohttp import web

from host.central import tokens
from host.central.tokens import Token
from host.http_api.errors import CallRefused, Refusal
from host.services import Services
from shared_schema.clock import from_text, to_text

CALLER = web.RequestKey("caller", Token)
MOST_AT_ONCE = 500
MOST_OF_ONE = 100
_LONGEST = 200
_SEEN_SECONDS = 60.0


class Callers:
    """Knows tokens, and counts the calls that are under way."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._open: Counter[str] = Counter()

    async def of(self, request: web.Request) -> Token:
        """The token of a call. Raises `CallRefused` without one that holds."""
        given = request.headers.getall("Authorization", [])
        scheme, _, secret = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not 0 < len(secret) <= _LONGEST:
            raise _unknown("the call brings no token")
        moment = self._services.clock.now()
        now = to_text(moment)
        found = await self._services.central.read(lambda c: tokens.of_token(c, secret, now))
        if found is None:
            raise _unknown("the token does not hold: it is wrong, was revoked, or has expired")
        if found.last_used is None or (moment - from_text(found.last_used)).total_seconds() > _SEEN_SECONDS:
            self._services.central.submit_with_next(lambda c: tokens.used(c, found.id))
        request[CALLER] = found
        return found

    def while_held(self, token: Token) -> Callable[[], Awaitable[bool]]:
        """What a stream asks now and then: whether the token that it was begun with still holds."""
        return partial(self.holds, token)

    async def holds(self, token: Token) -> bool:
        """Whether a token that was shown before is still there, and has not expired."""
        now = to_text(self._services.clock.now())
        found = await self._services.central.read(tokens.find, token.name)
        return found is not None and found.id == token.id and (found.expires_at is None or found.expires_at > now)

    @contextmanager
    def busy(self, token: Token) -> Iterator[None]:
        """Count a call as under way until the block ends. Raises `CallRefused` when there are too many."""
        if self._open[token.id] >= MOST_OF_ONE or self._open.total() >= MOST_AT_ONCE:
            what = f"{MOST_OF_ONE} calls of a token may be under way at once, and {MOST_AT_ONCE} of all"
            headers = {"Retry-After": "1"}
            raise CallRefused(
                Refusal(429, what, "try again in a moment", "rate_limit_exceeded", again=True, headers=headers)
            )
        self._open[token.id] += 1
        try:
            yield
        finally:
            self._open[token.id] -= 1
            if not self._open[token.id]:
                del self._open[token.id]


def _unknown(what: str) -> CallRefused:
    hint = "send `Authorization: Bearer TOKEN`; `dumbwaiter token add NAME` makes a token"
    return CallRefused(Refusal(401, what, hint, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"}))
