"""Model services as a person sets them up: a key or an address that is asked before it is kept.

A key is kept in `upstreams.toml` alone (mode 0600), and is never in a result, a log or an error.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from pydantic import SecretStr

from host.central import audit
from host.gateway.upstreams import Upstream, UpstreamKind, UpstreamSetting, configure, read_file
from host.gateway.upstreams_file import store
from host.services import Services
from host.settings import vendor_variables
from shared_schema.errors import DumbwaiterError, InvalidValue

_ASK_SECONDS = 15.0
_LARGEST_ANSWER = 4 * 1024**2
_PATHS = {
    UpstreamKind.ANTHROPIC: "/v1/models?limit=1000",
    UpstreamKind.OPENAI: "/models",
    UpstreamKind.GOOGLE: "/v1beta/models?pageSize=1000",
}
_OLLAMA_PATH = "/api/tags"


class ServiceRefuses(DumbwaiterError):
    """A model service does not take a key, or does not answer as one."""


async def show(services: Services, *, name: str) -> dict[str, Any]:
    """One model service: `{name, kind, url, has_key}`. Raises `InvalidValue` for one that is not set up."""
    upstream = services.upstreams.get(name)
    if upstream is None:
        raise InvalidValue(
            f"there is no model service '{name}'", hint=f"use one of {', '.join(services.upstreams)}, or give its --url"
        )
    return {
        "name": upstream.name,
        "kind": str(upstream.kind),
        "url": upstream.url,
        "has_key": upstream.key is not None,
    }


async def ask(services: Services, *, name: str, url: str | None = None, key: str | None = None) -> dict[str, Any]:
    """Ask a service for its models, with this address and key or else with those it has: `{models}`, nothing is kept.

    Raises `InvalidValue` for what cannot be an address or a key, and `ServiceRefuses`.
    """
    upstream = _as_set(services, name, url, key)
    return {"models": await asyncio.to_thread(_models, upstream)}


async def change(services: Services, *, name: str, url: str | None = None, key: str | None = None) -> dict[str, Any]:
    """Keep an address or a key of a service; the running host uses it from the next call on. Raises as `ask`."""
    _as_set(services, name, url, key)
    path = services.settings.layout.upstreams
    given = {field: value.strip() for field, value in (("url", url), ("key", key)) if value is not None}
    if given:
        await asyncio.to_thread(store, path, name, dict(given))
        # Of a key only that it is another one: the log is read by more people than the file of keys.
        after = {field: value if field == "url" else "set" for field, value in given.items()}
        await services.central.write(audit.record, "model_service.set", name, after=after)
    fresh = configure(services.settings.upstreams, await asyncio.to_thread(read_file, path), vendor_variables())
    services.upstreams.clear()  # in place: every agent's gateway looks into this one
    services.upstreams.update(fresh)
    return {**await show(services, name=name), "file": str(path)}


def _as_set(services: Services, name: str, url: str | None, key: str | None) -> Upstream:
    """The service as it would be with these. Raises `InvalidValue`."""
    path = services.settings.layout.upstreams
    file = read_file(path)
    before = file.get(name) or UpstreamSetting()
    given: dict[str, Any] = {} if url is None else {"url": url.strip()}
    if key is not None:
        given["key"] = SecretStr(key)
    file = {**file, name: before.model_copy(update=given)}
    return configure(services.settings.upstreams, file, vendor_variables())[name]


class _StaysThere(urllib.request.HTTPRedirectHandler):
    """A key goes where it was meant to go."""

    def redirect_request(self, *arguments: Any, **more: Any) -> None:
        return None


def _models(upstream: Upstream) -> list[str]:
    """The names of the models that a service has; blocks. Raises `ServiceRefuses`."""
    url = upstream.url + _PATHS.get(upstream.kind, _OLLAMA_PATH)
    headers = {**upstream.authentication(), "Accept": "application/json", "User-Agent": "dumbwaiter"}
    if upstream.kind is UpstreamKind.ANTHROPIC:
        headers["anthropic-version"] = "2023-06-01"
    opener = urllib.request.build_opener(_StaysThere)
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=_ASK_SECONDS) as answer:
            document = json.loads(answer.read(_LARGEST_ANSWER))
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(upstream, error.code) from None
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(upstream, error) from None
    except (ValueError, RecursionError):
        raise ServiceRefuses(
            f"{upstream.url} answers, but not as {upstream.name} does", hint="check the address (--url)"
        ) from None
    return sorted(_names(document))


def _names(document: Any) -> set[str]:
    """The names in an answer of any of the four forms: a list below `data` or `models`, of objects with a name."""
    entries = (document.get("data") or document.get("models") or []) if isinstance(document, dict) else []
    found = set()
    for entry in entries if isinstance(entries, list) else []:
        name = (entry.get("id") or entry.get("name") or entry.get("model")) if isinstance(entry, dict) else None
        if isinstance(name, str) and name.isprintable() and 0 < len(name) <= 200:
            found.add(name.removeprefix("models/"))
    return found


def _refused(upstream: Upstream, status: int) -> ServiceRefuses:
    if status in (400, 401, 403) and upstream.key is not None:  # Google says 400
        return ServiceRefuses(f"{upstream.name} refuses this key (status {status})", hint="check it, and try again")
    if status in (401, 403):
        return ServiceRefuses(f"{upstream.name} wants a key (status {status})", hint="give it one (--key-file)")
    what = f"{upstream.url} answers with status {status}"
    if status == 404:
        return ServiceRefuses(what, hint="check the address (--url): some end in /v1")
    return ServiceRefuses(what, hint="try again later, or go on without asking it (--no-check)")


def _unreachable(upstream: Upstream, error: Exception) -> ServiceRefuses:
    reason = getattr(error, "reason", error)
    why = getattr(reason, "strerror", None) or type(reason).__name__
    hint = "check the network, or go on without asking it (--no-check)"
    if upstream.kind is UpstreamKind.OLLAMA:
        hint = "start it with `ollama serve`, or say where it is (--url http://HOST:11434)"
    return ServiceRefuses(f"{upstream.name} cannot be reached at {upstream.url}: {why}", hint=hint)
