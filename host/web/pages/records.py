"""What there is, as the command line lists it: agents, chats and people, the audit log, the checks of `doctor`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aiohttp import web

from host.web.site import Site, Who, back_to, form
from host.web.visitor import Visitor
from shared_schema.clock import to_text

_DAYS = 30
_ENTRIES = 100


class RecordPages:
    """Pages that show a list and perhaps change an entry of it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        site.get("/agents", Who.OWNER, self._agents)
        site.get("/agents/{name}", Who.OWNER, self._agent)
        site.post("/agents/{name}", Who.OWNER, self._set_agent)
        site.get("/people", Who.OWNER, self._people)
        site.get("/audit", Who.OWNER, self._audit)
        site.get("/doctor", Who.OWNER, self._doctor)

    async def _agents(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        agents = await self._site.do(visitor, "agent_group.list")
        return self._site.page(request, "agents.html", agents=agents)

    async def _agent(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        return await self._agent_page(request, visitor, request.match_info["name"])

    async def _agent_page(self, request: web.Request, visitor: Visitor, name: str) -> web.Response:
        site = self._site
        agent = await site.do(visitor, "agent_group.show", name=name)
        first = site.services.clock.now() - timedelta(days=_DAYS - 1)
        usage = await site.do(visitor, "usage", by="day", agent_group=name, since=to_text(first)[:10])
        days = [to_text(first + timedelta(days=number))[:10] for number in range(_DAYS)]
        sessions = await site.do(visitor, "session.list", agent_group=name, limit=8)
        return site.page(
            request, "agent.html", agent=agent, chart=chart(days, usage["rows"]), used=usage["total"], sessions=sessions
        )

    async def _set_agent(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        name, given = request.match_info["name"], await form(request)
        values: dict[str, Any] = {}
        unset: list[str] = []
        for field in ("model", "budget_usd"):
            text = given.get(field, "").strip()
            if text:
                values[field] = text if field == "model" else _number(text)
            elif field in given:
                unset.append(field)
        if period := given.get("budget_period"):
            values["budget_period"] = period
        await self._site.do(visitor, "agent_group.set", name=name, **values, unset=unset or None)
        return back_to(f"/agents/{name}")

    async def _people(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        site = self._site
        return site.page(
            request,
            "people.html",
            channels=await site.do(visitor, "channel.list"),
            chats=await site.do(visitor, "messaging_group.list"),
            wirings=await site.do(visitor, "wiring.list"),
            users=await site.do(visitor, "user.list"),
            dropped=await site.do(visitor, "dropped.list", limit=20),
        )

    async def _audit(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        before = request.query.get("before", "")
        position = int(before) if before.isascii() and before.isdecimal() and len(before) < 19 else None
        entries = await self._site.do(visitor, "audit.list", before=position, limit=_ENTRIES)
        following = entries[-1]["position"] if len(entries) == _ENTRIES else None
        return self._site.page(request, "audit.html", entries=entries, following=following)

    async def _doctor(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        checks = await self._site.do(visitor, "doctor.examine")
        return self._site.page(request, "doctor.html", checks=checks)


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return -1.0  # which the operation refuses, with its own sentence


def chart(days: list[str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Bars of tokens for each of some days: their places in a picture of 100 times 30, and what they say. Pure."""
    used = {row["day"]: row for row in rows}
    totals = [_tokens(used.get(day)) for day in days]
    most = max([*totals, 1])
    width = 100 / len(days)
    bars = [
        {
            "day": day,
            "tokens": tokens,
            "dollars": (used.get(day) or {}).get("cost_usd"),
            "x": round(number * width + width * 0.12, 2),
            "width": round(width * 0.76, 2),
            "height": round(30 * tokens / most, 2) if tokens else 0.3,
        }
        for number, (day, tokens) in enumerate(zip(days, totals, strict=True))
    ]
    return {"bars": bars, "most": most, "is_empty": not any(totals)}


def _tokens(row: dict[str, Any] | None) -> int:
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    return 0 if row is None else sum(int(row[name] or 0) for name in names)
