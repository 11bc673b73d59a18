"""Chats and people: channels, who serves what (which is changed here), chats, users and roles, what was not taken."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from host.central.messaging_groups import Engage, SenderScope, SessionMode, ShownProgress
from host.web.site import Site, Who, back_to, form
from host.web.visitor import Visitor
from shared_schema.errors import DumbwaiterError, InvalidValue

_KEPT = (
    "session_mode", "per_user", "engage", "pattern", "reset", "reset_minutes", "reset_hour", "archived", "sender_scope",
    "non_engaging", "priority", "agent_replies", "progress",
)  # fmt: skip
"""What a wiring has besides chat and agent: the operation sets all of it, and the form only a part."""
_MOST = 25
"""Of each list. Each wiring has a form of its own: a page with thousands would take seconds."""


class PeoplePages:
    """One page, and the changes of wirings."""

    def __init__(self, site: Site) -> None:
        self._site = site
        site.get("/people", Who.OWNER, self._show)
        site.post("/people/wiring", Who.OWNER, self._wire)
        site.post("/people/wiring/remove", Who.OWNER, self._unwire)

    async def _show(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        return await self._page(request, visitor, None)

    async def _page(self, request: web.Request, visitor: Visitor, problem: DumbwaiterError | None) -> web.Response:
        site = self._site
        search = request.query.get("q", "").strip()
        found = {"search": search or None, "limit": _MOST + 1}
        chats = await site.do(visitor, "messaging_group.list", **found)
        wirings = await site.do(visitor, "wiring.list", **found)
        return site.page(
            request,
            "people.html",
            status=200 if problem is None else 400,
            problem=problem,
            channels=await site.do(visitor, "channel.list"),
            search=search,
            more=len(chats) > _MOST or len(wirings) > _MOST,
            chats=chats[:_MOST],
            wirings=wirings[:_MOST],
            agents=await site.do(visitor, "agent_group.list"),
            users=await site.do(visitor, "user.list", limit=_MOST),
            dropped=await site.do(visitor, "dropped.list", limit=20),
            choices={
                "session_mode": list(SessionMode),
                "engage": list(Engage),
                "sender_scope": list(SenderScope),
                "progress": list(ShownProgress),
            },
        )

    async def _wire(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        given = await form(request)
        where = {name: given.get(name, "") for name in ("messaging_group", "agent_group")}
        known = [
            each
            for each in await self._site.do(visitor, "wiring.list", search=where["messaging_group"])
            if all(each[name] == value for name, value in where.items())
        ]
        try:
            values = wiring_of(given, known[0] if known else {})
            await self._site.do(visitor, "wiring.add", **where, **values)
        except DumbwaiterError as error:
            return await self._page(request, visitor, error)
        return back_to("/people")

    async def _unwire(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        given = await form(request)
        where = {name: given.get(name, "") for name in ("messaging_group", "agent_group")}
        await self._site.do(visitor, "wiring.remove", **where)
        return back_to("/people")


def wiring_of(given: dict[str, str], known: dict[str, Any]) -> dict[str, Any]:
    """A wiring as a form changes it; what the form does not have stays. Pure. Raises `InvalidValue`."""
    values = {name: known[name] for name in _KEPT if name in known}
    for name in ("session_mode", "engage", "sender_scope", "progress"):
        if given.get(name):
            values[name] = given[name]
    if "engage" in given:
        values["pattern"] = given.get("pattern", "").strip() or None
        values["per_user"] = given.get("per_user") == "yes"
    if priority := given.get("priority", "").strip():
        try:
            values["priority"] = int(priority[:10])
        except ValueError as error:
            raise InvalidValue(f"'{priority[:40]}' is no whole number", hint="write the priority as 10") from error
    return values
