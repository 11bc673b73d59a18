"""What programs can call, as a page: the OpenAPI document of the API, for people who write a program.

/api/
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from host.http_api.openapi import document
from host.web.site import Site, Who
from host.web.visitor import Visitor

PATH = "/api/"


class ApiPage:
    """One page, without anything that loads from elsewhere."""

    def __init__(self, site: Site) -> None:
        self._site = site
        site.get(PATH, Who.SIGNED_IN, self._show)

    async def _show(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        described = document()
        return self._site.page(request, "api.html", sections=sections_of(described), origin=self._site.origin(request))


def sections_of(described: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls of an OpenAPI document by their first tag: `name` and `calls`. Pure.

    A call has method, path, summary, description, `fields` (name, type, required, description, where) and `answers`.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for path, item in described["paths"].items():
        for method, each in item.items():
            if method in ("get", "post"):
                found.setdefault((each.get("tags") or ["other"])[0], []).append(_call(path, method, each))
    return [{"name": name, "calls": found[name]} for name in sorted(found)]


def _call(path: str, method: str, each: dict[str, Any]) -> dict[str, Any]:
    fields = [_field(given["name"], given["schema"], given, where=given["in"]) for given in each.get("parameters", [])]
    content = each.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    required = schema.get("required", [])
    fields += [
        _field(name, value, {"required": name in required, "description": value.get("description")}, where="JSON")
        for name, value in schema.get("properties", {}).items()
    ]
    answers = [kind for kind in each["responses"].get("200", each["responses"].get("202", {})).get("content", {})]
    return {
        "method": method.upper(),
        "path": path,
        "summary": each.get("summary", ""),
        "description": each.get("description", "").removeprefix(each.get("summary", "")).strip(),
        "fields": fields,
        "answers": answers,
    }


def _field(name: str, schema: dict[str, Any], given: dict[str, Any], *, where: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": _type(schema),
        "required": bool(given.get("required")),
        "description": given.get("description") or "",
        "default": schema.get("default"),
        "where": where,
    }


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(str(each) for each in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(each) for each in schema["anyOf"]))
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " | ".join(kind)
    return f"{kind} of {_type(schema['items'])}" if kind == "array" and "items" in schema else str(kind)
