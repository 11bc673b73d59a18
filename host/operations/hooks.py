"""What a person can do about hooks: programs that are told of events by signed requests."""

from __future__ import annotations

import base64
import re
import secrets
from typing import Any
from urllib.parse import urlsplit

from host.central import agent_groups, audit, events, hooks
from host.central.database import Queryable, Transaction
from host.central.events import EventKind
from host.central.hooks import EventHook
from host.services import Services
from host.similar import did_you_mean
from shared_schema.errors import Conflict, InvalidValue, NotFound

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,49}")
_LONGEST_URL = 2000


async def add(
    services: Services, *, name: str, url: str, kinds: list[str] | None = None, agent_group: str | None = None
) -> dict[str, Any]:
    """Post events to a URL from now on; `secret`, which signs them, is in this answer and nowhere else.

    Without kinds all events, without an agent group those of all. Raises `InvalidValue`, `NotFound`, `Conflict`.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidValue(
            f"'{name[:60]}' cannot be the name of a hook", hint="use up to 50 of a-z, 0-9, '.', '_' and '-'"
        )
    _require_url(url)
    for kind in kinds or ():
        if kind not in set(EventKind):
            raise InvalidValue(f"there is no event '{kind[:60]}'", hint=f"use one of {', '.join(EventKind)}")
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"

    def store(tx: Transaction) -> EventHook:
        group = None if agent_group is None else agent_groups.get_by_name(tx, agent_group)
        if hooks.find(tx, name) is not None:
            raise Conflict(f"there is a hook '{name}' already", hint=f"`dumbwaiter hook remove {name}` takes it away")
        if hooks.count(tx) >= hooks.MOST:
            raise Conflict(f"there are {hooks.MOST} hooks, and no more can be", hint="remove one first")
        hooks.add(
            tx,
            hook_id=f"hok_{secrets.token_hex(8)}",
            name=name,
            url=url,
            secret=secret,
            kinds=kinds or [],
            agent_group_id=None if group is None else group.id,
            position=events.newest(tx),
        )
        audit.record(tx, "hook.add", name, after={"url": _without_password(url), "kinds": kinds or "all"})
        kept = hooks.find(tx, name)
        assert kept is not None
        return kept

    kept = await services.central.write(store)
    services.hooks.changed.set()
    return {"secret": secret, **_shown(kept)}


async def list_all(services: Services) -> list[dict[str, Any]]:
    """All hooks by name: how many events wait, were delivered and missed, and what went wrong last."""
    return [_shown(each) for each in await services.central.read(hooks.all_of)]


async def remove(services: Services, *, name: str) -> dict[str, Any]:
    """Post no more events there. Raises `NotFound`."""

    def drop(tx: Transaction) -> None:
        if not hooks.remove(tx, name):
            raise _none(tx, name)
        audit.record(tx, "hook.remove", name)

    await services.central.write(drop)
    services.hooks.changed.set()
    return {"removed": name}


async def test(services: Services, *, name: str) -> dict[str, Any]:
    """Post a test to a hook, once: `{name, taken, error}`. Raises `NotFound`, `Conflict` without a running host."""

    def load(connection: Queryable) -> EventHook:
        known = hooks.find(connection, name)
        if known is None:
            raise _none(connection, name)
        return known

    found = await services.central.read(load)
    if services.hooks.attempt is None:
        raise Conflict("no host runs that could post to it", hint="start the host, then test the hook")
    error = await services.hooks.attempt(found.id)
    return {"name": name, "taken": error is None, "error": error}


def _none(connection: Queryable, name: str) -> NotFound:
    meant = did_you_mean(name, (each.name for each in hooks.all_of(connection)))
    return NotFound(f"there is no hook '{name[:60]}'{meant}", hint="`dumbwaiter hook list` shows all")


def _require_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidValue(f"'{url[:80]}' is no URL that can be posted to", hint="write it as https://example.org/path")


def _without_password(url: str) -> str:
    """A URL as it is shown: what may be a secret in it stays out."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path}"


def _shown(hook: EventHook) -> dict[str, Any]:
    return {
        "name": hook.name,
        "id": hook.id,
        "url": _without_password(hook.url),
        "kinds": hook.of_kinds,
        "agent_group": hook.agent_group,
        "waiting": hook.waiting,
        "delivered": hook.delivered,
        "missed": hook.missed,
        "attempts": hook.attempts,
        "next_at": hook.next_at,
        "last_error": hook.last_error,
        "last_delivered_at": hook.last_delivered_at,
        "created_at": hook.created_at,
    }
