"""Tokens with which programs call the host over HTTP: made, listed, revoked."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from host.central import agent_groups, audit, tokens
from host.central.database import Queryable, Transaction
from host.central.tokens import EDITOR, Rights, Token
from host.services import Services
from host.similar import did_you_mean
from shared_schema.clock import to_text
from shared_schema.errors import Conflict, InvalidValue, NotFound

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,49}")
_PERIODS = ("day", "month", "total")
_MOST_DAYS = 36_500


async def add(
    services: Services,
    *,
    name: str,
    rights: str = Rights.TALK.value,
    agent_group: str | None = None,
    budget_usd: float | None = None,
    budget_tokens: int | None = None,
    budget_period: str = "month",
    expires_days: float | None = None,
) -> dict[str, Any]:
    """Make a token; `token` is in this answer and nowhere else. A running host serves its API from now on.

    Without an agent group it is for all of them. Raises `InvalidValue`, `NotFound`, `Conflict`.
    """
    if _NAME.fullmatch(name) is None or name == EDITOR:
        raise InvalidValue(
            f"'{name[:60]}' cannot be the name of a token", hint="use up to 50 of a-z, 0-9, '.', '_' and '-'"
        )
    if rights not in set(Rights):
        raise InvalidValue(f"'{rights[:60]}' are no rights", hint=f"use one of {', '.join(Rights)}")
    if budget_period not in _PERIODS:
        raise InvalidValue(f"'{budget_period[:60]}' is no period", hint=f"use one of {', '.join(_PERIODS)}")
    if (budget_usd is not None and not budget_usd > 0) or (budget_tokens is not None and budget_tokens < 1):
        raise InvalidValue("a budget must be more than nothing")
    if expires_days is not None and not 0 < expires_days <= _MOST_DAYS:
        raise InvalidValue(f"a token can expire after {_MOST_DAYS} days at most, and not before it was made")

    def store(tx: Transaction) -> tuple[str, Token]:
        expires_at = None if expires_days is None else to_text(tx.at + timedelta(days=expires_days))
        group = None if agent_group is None else agent_groups.get_by_name(tx, agent_group)
        if tokens.find(tx, name) is not None:
            raise Conflict(f"there is a token '{name}' already", hint=f"`dumbwaiter token revoke {name}` ends it")
        token = tokens.add(
            tx,
            name=name,
            rights=Rights(rights),
            agent_group_id=None if group is None else group.id,
            budget_usd=budget_usd,
            budget_tokens=budget_tokens,
            budget_period=budget_period,
            expires_at=expires_at,
        )
        kept = tokens.find(tx, name)
        assert kept is not None
        about = {"rights": rights, "agent_group": agent_group, "expires_at": expires_at}
        audit.record(tx, "token.add", name, after=about)
        return token, kept

    address = await services.page.on() if services.page.provider is not None else None
    token, kept = await services.central.write(store)
    return {"token": token, "address": address, **_shown(kept)}


async def list_all(services: Services) -> list[dict[str, Any]]:
    """All tokens by name, with what each has used in the present period of its budget; never the tokens themselves."""
    now = to_text(services.clock.now())

    def load(connection: Queryable) -> list[dict[str, Any]]:
        found = tokens.all_of(connection)
        spent = {each.id: tokens.spent(connection, each, now) for each in found}
        return [
            _shown(each)
            | {
                "expired": each.expires_at is not None and each.expires_at <= now,
                "used_usd": round(spent[each.id].usd, 6),
                "used_tokens": spent[each.id].tokens,
            }
            for each in found
        ]

    return await services.central.read(load)


async def revoke(services: Services, *, name: str) -> dict[str, Any]:
    """End a token, at once. What was said with it stays. Raises `NotFound`."""

    def drop(tx: Transaction) -> None:
        found = tokens.find(tx, name)
        if found is None or not tokens.remove(tx, name):
            meant = did_you_mean(name, (each.name for each in tokens.all_of(tx)))
            raise NotFound(f"there is no token '{name[:60]}'{meant}", hint="`dumbwaiter token list` shows all")
        audit.record(tx, "token.revoke", name, before={"id": found.id, "rights": found.rights})

    await services.central.write(drop)
    return {"revoked": name}


def _shown(token: Token) -> dict[str, Any]:
    return {
        "name": token.name,
        "id": token.id,
        "rights": token.rights,
        "agent_group": token.agent_group,
        "budget_usd": token.budget_usd,
        "budget_tokens": token.budget_tokens,
        "budget_period": token.budget_period,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used": token.last_used,
    }
