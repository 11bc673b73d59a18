"""The page's doors: links to sign in with, and the browsers that are signed in."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from host.access.standing import TERMINAL, standing_of
from host.central import audit, sign_ins, users
from host.central.database import Transaction
from host.central.sign_ins import SignIn
from host.channels.browser import CHANNEL_TYPE
from host.services import Services
from shared_schema.clock import to_text
from shared_schema.errors import Conflict, NotFound

LINK_LASTS = timedelta(minutes=10)
SIGN_IN_LASTS = timedelta(days=30)


async def link(services: Services, *, user: str | None = None) -> dict[str, Any]:
    """A link that signs one browser in, once: `{url, user, expires_at}`. The page is served from now on.

    Without a user it is for the owner at the terminal. Raises `Conflict` for a user without any role.
    """
    wanted = user or TERMINAL
    until = services.clock.now() + LINK_LASTS

    def offer(tx: Transaction) -> str:
        if not standing_of(tx, wanted).is_known:
            raise Conflict(
                f"{wanted} has no role, and so nothing to see on the page",
                hint=f"`dumbwaiter member add {wanted} AGENT` lets them talk to an agent",
            )
        audit.record(tx, "web.link", wanted)
        return sign_ins.offer(tx, _on_the_page(tx, wanted), to_text(until))

    address = await services.page.on()
    token = await services.central.write(offer)
    return {"url": f"{address}/sign-in#{token}", "user": wanted, "expires_at": to_text(until)}


async def list_all(services: Services) -> list[dict[str, Any]]:
    """The browsers that are signed in, the last seen first: id, user, browser, created_at, last_seen, expires_at."""
    now = to_text(services.clock.now())
    return [_shown(each) for each in await services.central.read(sign_ins.all_of, now)]


async def sign_out(services: Services, *, id: str) -> dict[str, Any]:
    """Sign a browser out, at once. Raises `NotFound`."""

    def end(tx: Transaction) -> str:
        user = sign_ins.end(tx, id)
        if user is None:
            raise NotFound(f"no browser '{id[:40]}' is signed in", hint="`dumbwaiter web --list` shows those that are")
        audit.record(tx, "web.sign_out", user, before={"id": id})
        return user

    return {"signed_out": id, "user": await services.central.write(end)}


def _on_the_page(tx: Transaction, user: str) -> str:
    """The user of a person in the browser: one of another platform gets one, with the same roles."""
    if user == TERMINAL or user.startswith(f"{CHANNEL_TYPE}:"):
        return user
    found = users.get(tx, user)
    own = users.user_id(CHANNEL_TYPE, user)
    if users.find(tx, own) is None:
        users.link(tx, users.ensure(tx, own, found.name), found)
    return own


def _shown(each: SignIn) -> dict[str, Any]:
    return {
        "id": each.id,
        "user": each.user_id,
        "browser": each.browser,
        "created_at": each.created_at,
        "last_seen": each.last_seen,
        "expires_at": each.expires_at,
    }
