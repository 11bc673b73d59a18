"""All sessions, for the owner: a list with filters, a search over everything, and one session from every side.

/sessions?agent=…&status=…&q=…
/sessions/<session>?view=conversation|trace|files|database|log
"""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from aiohttp import web

from host.sessions.untrusted_files import entries_below, opened_folder
from host.web.markdown import with_html
from host.web.site import Site, Who, back_to, form
from host.web.visitor import Visitor
from shared_schema import json_text
from shared_schema.errors import DumbwaiterError, NotFound

_PAGE = 50
_ROWS = 100
_ENTRIES = 300
_MOST_LINES = 50_000
_MOST_FILES = 500
_MOST_ENTRIES = 5_000
_MOST_DEPTH = 4
_VIEWS = ("conversation", "trace", "files", "database", "log")
TABLES = {
    "inbound.db": ("messages_in", "delivered", "destinations", "session_routing", "session_context"),
    "outbound.db": ("messages_out", "processing_ack", "turns", "steps", "session_state", "agent_state"),
}
"""Of both files; fixed names, so that no name of an agent's gets into a query."""
_ACTIONS = {
    "stop": "session.stop",
    "archive": "session.archive",
    "resume": "session.resume",
    "delete": "session.delete",
    "restore": "session.restore",
}


class SessionPages:
    """Looking at sessions, and what can be done with them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        site.get("/sessions", Who.OWNER, self._list)
        site.get("/sessions/{session}", Who.OWNER, self._show)
        site.get("/sessions/{session}/export", Who.OWNER, self._export)
        site.post("/sessions/{session}/do/{action}", Who.OWNER, self._do)

    async def _list(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        site, query = self._site, request.query
        wanted = {name: query.get(name, "").strip() for name in ("agent", "status", "q", "after")}
        found: dict[str, Any] | None = None
        problem: DumbwaiterError | None = None
        rows: list[dict[str, Any]] = []
        agents = await site.do(visitor, "agent_group.list")
        try:
            if wanted["q"]:
                found = await site.do(
                    visitor, "session.search", query=wanted["q"], agent_group=wanted["agent"] or None, limit=_PAGE
                )
            else:
                rows = await site.do(
                    visitor,
                    "session.list",
                    agent_group=wanted["agent"] or None,
                    status=wanted["status"] or None,
                    after=wanted["after"] or None,
                    limit=_PAGE,
                )
        except DumbwaiterError as error:  # what was typed cannot be searched for: the page says so, and stays
            problem = error
        template = "sessions_found.html" if "part" in query else "sessions.html"
        following = f"{rows[-1]['last_active']}/{rows[-1]['id']}" if len(rows) == _PAGE else None
        return site.page(
            request,
            template,
            status=200 if problem is None else 400,
            rows=rows,
            found=found,
            problem=problem,
            wanted=wanted,
            agents=agents,
            following=following,
        )

    async def _show(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        site, name = self._site, request.match_info["session"]
        view = request.query.get("view", "conversation")
        if view not in _VIEWS:
            raise NotFound("there is no such view of a session")
        session = await site.do(visitor, "session.show", session=name)
        entries: list[dict[str, Any]] = []
        shown: Callable[[Sequence[dict[str, Any]]], list[dict[str, Any]]] = list
        values: dict[str, Any] = {
            "files": [],
            "table": None,
            "tables": TABLES,
            "chosen": None,
            "log": "",
        }
        is_deleted = session["status"] == "deleted"
        if view in ("conversation", "trace") and not is_deleted:
            entries = await site.do(
                visitor, "session.transcript", session=session["id"], limit=_ENTRIES, steps=view == "trace"
            )
            shown = _opened if view == "trace" else with_html
        elif view == "files":
            values["files"] = await asyncio.to_thread(_files, Path(session["path"]))
        elif view == "log" and not is_deleted:
            values["log"] = (await site.do(visitor, "session.logs", session=session["id"]))["text"]
        elif view == "database":
            known = [table for tables in TABLES.values() for table in tables]
            values["chosen"] = chosen = request.query.get("table", known[0])
            if chosen not in known:
                raise NotFound("there is no such table in a session")
            values["table"] = await site.do(
                visitor, "session.sql", session=session["id"], query=f"select * from {chosen}", limit=_ROWS
            )
        usage = await site.do(visitor, "usage", by="session", session=session["id"])
        return await site.made_page(
            request,
            "session.html",
            lambda: {"entries": shown(entries)},
            session=session,
            view=view,
            used=usage["total"],
            **values,
        )

    async def _export(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        session = await self._site.do(visitor, "session.show", session=request.match_info["session"])
        response = web.StreamResponse(
            headers={
                "Content-Type": "application/x-ndjson",
                "Content-Disposition": f'attachment; filename="{session["short_id"]}.jsonl"',
                "Cache-Control": "no-store",
            }
        )
        await response.prepare(request)
        async for each in self._site.follow("session.export", session=session["id"]):
            await response.write(json.dumps(each, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        return response

    async def _do(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        operation = _ACTIONS.get(request.match_info["action"])
        if operation is None:
            raise NotFound("that cannot be done with a session")
        session = await self._site.do(visitor, "session.show", session=request.match_info["session"])
        await form(request)
        await self._site.do(visitor, operation, session=session["id"])
        return back_to(f"/sessions/{session['id']}")


def _opened(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries whose steps have their tool calls and usage as lines for people; the newest, where they are very many."""
    left, opened = _MOST_LINES, []
    for entry in reversed(entries):
        if entry["direction"] == "step":
            texts = {name: entry[name] or "" for name in ("tool_calls", "usage")}
            left -= sum(text.count(",") for text in texts.values())
            entry = entry | ({name: _pretty(text) for name, text in texts.items()} if left >= 0 else {})
        opened.append(entry)
    return opened[::-1]


def _pretty(text: str) -> str:
    try:
        return json.dumps(json_text.parse(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def _files(folder: Path) -> list[dict[str, Any]]:
    """Names and sizes of what lies in a session's folder, following no link. No file is opened."""
    files = []
    with suppress(OSError, DumbwaiterError), opened_folder(folder) as opened:  # or it went away meanwhile
        for entry in islice(entries_below(opened, max_depth=_MOST_DEPTH), _MOST_ENTRIES):
            if not entry.is_folder:
                name = entry.path.encode("utf-8", "replace").decode("utf-8", "replace")
                is_link = stat.S_ISLNK(entry.status.st_mode)
                files.append({"name": name, "bytes": entry.status.st_size, "is_link": is_link})
    return sorted(files, key=lambda each: str(each["name"]))[:_MOST_FILES]
