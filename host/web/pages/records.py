"""What is only looked at: the audit log, the logs of host and agents, the checks of `doctor`."""

from __future__ import annotations

from aiohttp import web

from host.web.site import Site, Who
from host.web.visitor import Visitor
from shared_schema.errors import DumbwaiterError

_ENTRIES = 100
_LINES = 300


class RecordPages:
    """Pages that show a list."""

    def __init__(self, site: Site) -> None:
        self._site = site
        site.get("/audit", Who.OWNER, self._audit)
        site.get("/logs", Who.OWNER, self._logs)
        site.get("/doctor", Who.OWNER, self._doctor)

    async def _audit(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        before = request.query.get("before", "")
        position = int(before) if before.isascii() and before.isdecimal() and len(before) < 19 else None
        entries = await self._site.do(visitor, "audit.list", before=position, limit=_ENTRIES)
        following = entries[-1]["position"] if len(entries) == _ENTRIES else None
        return self._site.page(request, "audit.html", entries=entries, following=following)

    async def _logs(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """The host's log, and with a session what its agents printed."""
        site, query = self._site, request.query
        wanted = {"session": query.get("session", "").strip(), "level": query.get("level", "info")}
        lines, printed, problem = [], "", None
        try:
            session = wanted["session"] or None
            lines = await site.do(visitor, "host_log.list", session=session, level=wanted["level"], limit=_LINES)
            if session is not None:
                printed = (await site.do(visitor, "session.logs", session=session))["text"]
        except DumbwaiterError as error:  # what was typed cannot be found: the page says so, and stays
            problem = error
        return site.page(
            request,
            "logs.html",
            status=200 if problem is None else 400,
            lines=lines[::-1],
            printed=printed,
            problem=problem,
            wanted=wanted,
        )

    async def _doctor(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        checks = await self._site.do(visitor, "doctor.examine")
        return self._site.page(request, "doctor.html", checks=checks)
