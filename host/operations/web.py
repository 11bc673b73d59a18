"""The page's doors: links to sign in with, and the browsers that are signed in."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import Any

from host.access.standing import TERMINAL, standing_of
from host.central import audit, sign_ins, users
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
    now, until = services.clock.now(), services.clock.now() + LINK_LASTS

    def offer(connection: sqlite3.Connection) -> str:
        if not standing_of(connection, wanted).is_known:
            raise Conflict(
                f"{wanted} has no role, and so nothing to see on the page",
                hint=f"`dumbwaiter member add {wanted} --agent-group NAME` lets them talk to an agent",
            )
        audit.record(connection, "web.link", wanted, to_text(now))
        return sign_ins.offer(connection, _on_the_page(connection, wanted, to_text(now)), to_text(now), to_text(until))

    address = await services.page.on()
    token = await services.central.write(offer)
    return {"url": f"{address}/sign-in#{token}", "user": wanted, "expires_at": to_text(until)}


async def list_all(services: Services) -> list[dict[str, Any]]:
    """The browsers that are signed in, the last seen first: id, user, browser, created_at, last_seen, expires_at."""
    now = to_text(services.clock.now())
    return [_shown(each) for each in await services.central.read(lambda c: sign_ins.all_of(c, now))]


async def sign_out(services: Services, *, id: str) -> dict[str, Any]:
    """Sign a browser out, at once. Raises `NotFound`."""
    now = to_text(services.clock.now())

    def end(connection: sqlite3.Connection) -> str:
        user = sign_ins.end(connection, id)
        if user is None:
            raise NotFound(f"no browser '{id[:40]}' is signed in", hint="`dumbwaiter web --list` shows those that are")
        audit.record(connection, "web.sign_out", user, now, before={"id": id})
        return user

    return {"signed_out": id, "user": await services.central.write(end)}


def _on_the_page(connection: sqlite3.Connection, user: str, now: str) -> str:
    """The user of a person in the browser: one of another platform gets one, with the same roles."""
    if user == TERMINAL or user.startswith(f"{CHANNEL_TYPE}:"):
        return user
    found = users.get(connection, user)
    own = users.user_id(CHANNEL_TYPE, user)
    if users.find(connection, own) is None:
        users.link(connection, users.ensure(connection, own, found.name, now), found)
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
