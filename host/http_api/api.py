"""The whole API of a host, as routes for its web server."""

from __future__ import annotations

from aiohttp import web

from host.central.tokens import Token
from host.http_api.access import Access
from host.http_api.mcp_api import McpApi
from host.http_api.openai_api import OpenAiApi
from host.http_api.openapi import document
from host.http_api.operations_api import OperationsApi
from host.http_api.runs_api import RunsApi
from host.services import Services


def api_of(services: Services) -> Access:
    """The API of a host, with all of its routes."""
    access = Access(services)
    OpenAiApi(access)
    access.get("/api/openapi.json", _document)
    RunsApi(access, OperationsApi(access))
    McpApi(access)
    return access


async def _document(request: web.Request, token: Token) -> web.StreamResponse:
    return web.json_response(document())
