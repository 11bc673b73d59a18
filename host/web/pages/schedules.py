"""What agents do by themselves: each schedule with its next run, what the last ones came to; run now, pause, go on.

One button pauses all of them.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from aiohttp import web

from host.web.site import Site, Who, back_to, form
from host.web.visitor import Visitor
from shared_schema.clock import from_text
from shared_schema.errors import NotFound

_RUNS = 30
_CALENDAR_DAYS = 21
_SHOWN = 4
_ACTIONS = {
    "run": "schedule.run",
    "pause": "schedule.pause",
    "resume": "schedule.resume",
    "cancel": "schedule.cancel",
}
_OF_ALL = {"pause-all": "schedule.pause_all", "resume-all": "schedule.resume_all"}


def weeks_of(now: datetime, zone: str, upcoming: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The days of a calendar, week by week from the Monday before: `day` (a date), `is_today`, `is_past`, and `times`.

    A time has `at` (as HH:MM in that zone), `schedule` and `agent_group`; what a day has beyond a few is `more`. Pure.
    """
    where = ZoneInfo(zone)
    today = now.astimezone(where).date()
    by_day: dict[date, list[dict[str, Any]]] = {}
    for each in upcoming:
        moment = from_text(each["at"]).astimezone(where)
        by_day.setdefault(moment.date(), []).append(each | {"at": f"{moment:%H:%M}"})
    first = today - timedelta(days=today.weekday())
    count = (today - first).days + _CALENDAR_DAYS
    days = [
        {
            "day": day,
            "is_today": day == today,
            "is_past": day < today,
            "times": by_day.get(day, [])[:_SHOWN],
            "more": max(0, len(by_day.get(day, [])) - _SHOWN),
        }
        for day in (first + timedelta(days=number) for number in range(-(-count // 7) * 7))
    ]
    return [days[start : start + 7] for start in range(0, len(days), 7)]


def _at(moment: str, zone: str) -> str:
    """A stored time as the calendar shows it."""
    return f"{from_text(moment).astimezone(ZoneInfo(zone)):%m-%d %H:%M}"


class SchedulePages:
    """The list of schedules and their log."""

    def __init__(self, site: Site) -> None:
        self._site = site
        site.get("/schedules", Who.OWNER, self._list)
        site.post("/schedules/do/{action}", Who.OWNER, self._do)

    async def _list(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        schedules = await self._site.do(visitor, "schedule.list")
        upcoming = await self._site.do(visitor, "schedule.upcoming", days=_CALENDAR_DAYS)
        runs = await self._site.do(visitor, "schedule.log", limit=_RUNS)
        zone = self._site.services.settings.zone
        acting = (await self._site.do(visitor, "status"))["schedules"]
        return self._site.page(
            request,
            "schedules.html",
            schedules=schedules,
            runs=runs,
            acting=acting,
            zone=zone,
            weeks=weeks_of(self._site.services.clock.now(), zone, upcoming),
            left_out=[each | {"until": _at(each["at"], zone)} for each in upcoming if each["goes_on"]],
        )

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
