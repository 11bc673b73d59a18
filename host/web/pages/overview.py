"""What runs, what waits, what failed, what was spent; and what needs a person, who decides it here."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from host.web.site import Site, Who, back_to, form
from host.web.visitor import Visitor
from shared_schema.clock import to_text

_MOST_COMMANDS = 200
_MOST_QUESTIONS = 20


class OverviewPages:
    """The first page of an owner. Others begin with their chats."""

    def __init__(self, site: Site) -> None:
        self._site = site
        site.get("/", Who.SIGNED_IN, self._show)
        site.get("/palette", Who.SIGNED_IN, self._palette)
        site.post("/approvals/{code}", Who.OWNER, self._decide)
        site.post("/questions", Who.OWNER, self._answer)

    async def _show(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        if not visitor.is_owner:
            return back_to("/chat")
        values = await self._now(visitor)
        template = "overview_now.html" if "part" in request.query else "overview.html"
        return self._site.page(request, template, **values)

    async def _now(self, visitor: Visitor) -> dict[str, Any]:
        site = self._site
        today = to_text(site.services.clock.now())[:10]
        status, usage, agents, recent, questions = await asyncio.gather(  # all are waited for: none needs another
            site.do(visitor, "status"),
            site.do(visitor, "usage", by="agent-group", since=today, until=today),
            site.do(visitor, "agent_group.list"),
            site.do(visitor, "session.list", limit=6),
            site.do(visitor, "question.list", user=visitor.user, limit=_MOST_QUESTIONS),
        )
        approvals = [await site.do(visitor, "approval.show", code=each["code"]) for each in status["approvals"][:20]]
        return {
            "now": status,
            "approvals": approvals,
            "questions": questions,
            "usage": usage,
            "agents": agents,
            "recent": recent,
            "troubled": [each for each in status["channels"] if each["state"] not in ("connected", "starting")],
            "budgets": [each for each in agents if each["budget_used"]],
        }

    async def _decide(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        answer = (await form(request)).get("answer", "")
        code = request.match_info["code"]
        if answer == "no":
            done = await self._site.do(visitor, "approval.deny", code=code)
        else:
            done = await self._site.do(visitor, "approval.approve", code=code, choice=answer or None)
        if "HX-Request" in request.headers:
            return self._site.page(request, "decided.html", done=done)
        return back_to("/")

    async def _answer(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """Answer a question that the visitor was asked, also on another platform."""
        given = await form(request)
        done = await self._site.do(
            visitor,
            "question.answer",
            session=given.get("session", ""),
            message=given.get("message", ""),
            text=given.get("text", "").strip() or given.get("choice", ""),
            user=visitor.user,
        )
        return back_to(f"/sessions/{done['session_id']}")

    async def _palette(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """Where the palette leads to: pages, agents, conversations."""
        site = self._site
        chats = await site.do(visitor, "conversation.list", user=visitor.user, limit=_MOST_COMMANDS)
        sessions = await site.do(visitor, "session.list", limit=_MOST_COMMANDS) if visitor.is_owner else []
        return site.page(request, "palette.html", **chats, sessions=sessions)
