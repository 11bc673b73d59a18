"""Agents: what each is set to and has used, and the files that tell it what it is, with what a change would change.

/agents/<name>
/agents/<name>/file?path=AGENT.md
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from aiohttp import web

from host.web.site import Site, Who, back_to, form, segment
from host.web.templates import all_tokens
from host.web.visitor import Visitor
from shared_schema import json_text
from shared_schema.clock import to_text
from shared_schema.errors import Conflict, DumbwaiterError, InvalidValue

POLICIES = ("allow", "ask", "deny")
_DAYS = 30
_MIB = 1024**2
_TEXTS = ("model",)
_CHOICES = ("budget_period", "schedules")
_NUMBERS = ("budget_usd", "cpus")
_WHOLE = ("budget_tokens", "memory_mib", "pids", "gpus")


class AgentPages:
    """The list of agents, each of them, and each of their files."""

    def __init__(self, site: Site) -> None:
        self._site = site
        site.get("/agents", Who.OWNER, self._list)
        site.get("/agents/{name}", Who.OWNER, self._show)
        site.post("/agents/{name}", Who.OWNER, self._set)
        site.post("/agents/{name}/tools", Who.OWNER, self._set_tools)
        site.get("/agents/{name}/file", Who.OWNER, self._file)
        site.post("/agents/{name}/file", Who.OWNER, self._set_file)
        site.post("/agents/{name}/file/remove", Who.OWNER, self._remove_file)
        site.post("/agents/{name}/image", Who.OWNER, self._roll_back)

    async def _list(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        agents = await self._site.do(visitor, "agent_group.list")
        return self._site.page(request, "agents.html", agents=agents)

    async def _show(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        return await self._page(request, visitor, None)

    async def _page(
        self,
        request: web.Request,
        visitor: Visitor,
        problem: DumbwaiterError | None,
        given: dict[str, str] | None = None,
    ) -> web.Response:
        """The page of an agent; `given` is what a person wrote in the form of its tools, and stays there."""
        site, name = self._site, request.match_info["name"]
        agent = await site.do(visitor, "agent_group.show", name=name)
        first = site.services.clock.now() - timedelta(days=_DAYS - 1)
        usage = await site.do(visitor, "usage", by="day", agent_group=name, since=to_text(first)[:10])
        days = [to_text(first + timedelta(days=number))[:10] for number in range(_DAYS)]
        servers = json_text.parse(agent["tool_servers"]) if agent["tool_servers"] else {}
        return site.page(
            request,
            "agent.html",
            status=200 if problem is None else 409 if isinstance(problem, Conflict) else 400,
            problem=problem,
            agent=agent,
            tools=tools_shown(agent) if given is None else tools_shown(agent) | given,
            is_open=given is not None,
            choices=POLICIES,
            chart=chart(days, usage["rows"]),
            used=usage["total"],
            sessions=await site.do(visitor, "session.list", agent_group=name, limit=8),
            files=await site.do(visitor, "agent_file.list", agent_group=name),
            images=await site.do(visitor, "agent_image.list", name=name),
            servers=sorted(servers),
        )

    async def _set(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        name, given = request.match_info["name"], await form(request)
        agent = await self._site.do(visitor, "agent_group.show", name=name)
        try:
            await self._site.do(visitor, "agent_group.set", name=name, **changes_of(given, agent["allow"]))
        except DumbwaiterError as error:
            return await self._page(request, visitor, error)
        return back_to(f"/agents/{segment(name)}")

    async def _set_tools(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """Change its MCP servers, what it must ask before and what it may ask for, unless they were changed since."""
        name, given = request.match_info["name"], await form(request)
        agent = await self._site.do(visitor, "agent_group.show", name=name)
        try:
            await self._site.do(visitor, "agent_group.set", name=name, **tools_of(given, agent))
        except (Conflict, InvalidValue) as error:  # what the person wrote stays, to be mended
            return await self._page(request, visitor, error, given)
        return back_to(f"/agents/{segment(name)}")

    async def _roll_back(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        name, given = request.match_info["name"], await form(request)
        number = _whole("number", given.get("number", ""))
        await self._site.do(visitor, "agent_image.rollback", name=name, number=number)
        return back_to(f"/agents/{segment(name)}")

    async def _file(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        site, name, path = self._site, request.match_info["name"], request.query.get("path", "")
        shown = await site.do(visitor, "agent_file.show", agent_group=name, path=path)
        return site.page(request, "agent_file.html", file=shown, diff=None, problem=None)

    async def _set_file(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """Show what a text would change, or write it."""
        site, name, given = self._site, request.match_info["name"], await form(request)
        path, text = given.get("path", ""), given.get("text", "")
        problem: DumbwaiterError | None = None
        where = {"agent_group": name, "path": path, "text": text}
        if given.get("do") == "save":
            try:
                await site.do(visitor, "agent_file.set", **where, revision=given.get("revision") or None)
                return back_to(f"/agents/{segment(name)}")
            except (Conflict, InvalidValue) as error:  # the person's text stays, beside what it would change now
                problem = error
        shown = await site.do(visitor, "agent_file.show", agent_group=name, path=path)
        diff = None
        if not isinstance(problem, InvalidValue):
            diff = (await site.do(visitor, "agent_file.set", **where, only_look=True))["diff"]
        status = 200 if problem is None else 409 if isinstance(problem, Conflict) else 400
        return site.page(
            request, "agent_file.html", status=status, file=shown | {"text": text}, diff=diff, problem=problem
        )

    async def _remove_file(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        name, given = request.match_info["name"], await form(request)
        await self._site.do(
            visitor,
            "agent_file.remove",
            agent_group=name,
            path=given.get("path", ""),
            revision=given.get("revision", ""),
        )
        return back_to(f"/agents/{segment(name)}")


def changes_of(given: dict[str, str], allowed: list[str]) -> dict[str, Any]:
    """What a form changes of an agent, as the operation takes it. Pure. Raises `InvalidValue`."""
    values: dict[str, Any] = {}
    unset: list[str] = []
    for field in (*_TEXTS, *_CHOICES, *_NUMBERS, *_WHOLE):
        if field not in given:
            continue
        text = given[field].strip()
        stored = "memory_bytes" if field == "memory_mib" else field
        if not text:  # a field that was left empty goes back to the setting; of choices one always stands
            if field not in _CHOICES:
                unset.append(stored)
        elif field in (*_TEXTS, *_CHOICES):
            values[stored] = text
        elif field in _NUMBERS:
            values[stored] = _number(field, text)
        else:
            values[stored] = _whole(field, text) * (_MIB if field == "memory_mib" else 1)
    if "fallbacks" in given:
        values["fallbacks"] = given["fallbacks"].split()
    if "allow" in given:
        wanted = {each.lower() for each in given["allow"].split()}
        values["allow"] = sorted(wanted - set(allowed))
        values["disallow"] = sorted(set(allowed) - wanted)
    return values | ({"unset": unset} if unset else {})


def tools_shown(agent: dict[str, Any]) -> dict[str, str]:
    """The form of an agent's tools, as it is filled in. Pure."""
    servers = json_text.parse(agent["tool_servers"]) if agent["tool_servers"] else None
    return {
        "tool_servers": "" if servers is None else json.dumps(servers, indent=2, ensure_ascii=False),
        "ask_before": "\n".join(agent["ask_before"]),
        "revision": agent["tools_revision"],
        **{f"policy-{act}": policy for act, policy in agent["policies"].items()},
    }


def tools_of(given: dict[str, str], agent: dict[str, Any]) -> dict[str, Any]:
    """What the form of an agent's tools changes, as the operation takes it. Pure."""
    values: dict[str, Any] = {"tools_revision": given.get("revision", "")}
    servers = given.get("tool_servers", "").strip()
    if servers:
        values["tool_servers"] = servers
    elif "tool_servers" in given and agent["tool_servers"]:
        values["unset"] = ["tool_servers"]
    if "ask_before" in given:
        rules = [line.strip() for line in given["ask_before"].splitlines() if line.strip()]
        values["ask_before"] = [rule for rule in rules if rule not in agent["ask_before"]]
        values["no_ask_before"] = [rule for rule in agent["ask_before"] if rule not in rules]
    said = {act: given.get(f"policy-{act}", policy) for act, policy in agent["policies"].items()}
    values["policies"] = [f"{act}={policy}" for act, policy in said.items() if policy != agent["policies"][act]]
    return values


def _number(field: str, text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError as error:
        raise InvalidValue(f"'{text[:40]}' is no number", hint=f"write {field} as 1.5") from error


def _whole(field: str, text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise InvalidValue(f"'{text[:40]}' is no whole number", hint=f"write {field} as 1000")
    return int(text)


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
    return 0 if row is None else all_tokens(row)
