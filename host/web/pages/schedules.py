"""What agents do by themselves: each schedule with its next run, what the last ones came to; run now, pause, go on.

One button pauses all of them.
"""

from __future__ import annotations

from aiohttp import web

from host.web.site import Site, Who, back_to, form
from host.web.visitor import Visitor
from shared_schema.errors import NotFound

_RUNS = 30
_ACTIONS = {
    "run": "schedule.run",
    "pause": "schedule.pause",
    "resume": "schedule.resume",
    "cancel": "schedule.cancel",
}
_OF_ALL = {"pause-all": "schedule.pause_all", "resume-all": "schedule.resume_all"}


class SchedulePages:
    """The list of schedules and their log."""

    def __init__(self, site: Site) -> None:
        self._site = site
        site.get("/schedules", Who.OWNER, self._list)
        site.post("/schedules/do/{action}", Who.OWNER, self._do)

    async def _list(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        schedules = await self._site.do(visitor, "schedule.list")
        runs = await self._site.do(visitor, "schedule.log", limit=_RUNS)
        acting = (await self._site.do(visitor, "status"))["schedules"]
        return self._site.page(request, "schedules.html", schedules=schedules, runs=runs, acting=acting)

    async def _do(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        action = request.match_info["action"]
        if action in _OF_ALL:
            await self._site.do(visitor, _OF_ALL[action])
            return back_to("/schedules")
        operation = _ACTIONS.get(action)
        if operation is None:
            raise NotFound("that cannot be done with a schedule")
        given = await form(request)
        await self._site.do(
            visitor, operation, name=given.get("name", ""), agent_group=given.get("agent_group") or None
        )
        return back_to("/schedules")
