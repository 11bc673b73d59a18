"""A host whose API is served, and programs with tokens that call it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from host.web.serving import serving_page
from tests.support.host import Host, running


@dataclass
class Program:
    """Requests with one token."""

    address: str
    token: str | None
    session: aiohttp.ClientSession

    async def call(
        self, method: str, path: str, body: Any = None, *, data: bytes | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and body of an answer, a JSON value where it is one."""
        status, answer, _ = await self.ask(method, path, body, data=data, **headers)
        return status, answer

    async def ask(
        self, method: str, path: str, body: Any = None, *, data: bytes | None = None, **headers: str
    ) -> tuple[int, Any, Any]:
        """The same with the headers of the answer."""
        given = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        if body is not None or data is not None:
            given["Content-Type"] = "application/json"
        content = json.dumps(body).encode() if body is not None else data
        async with self.session.request(
            method, self.address + path, data=content, headers={**given, **headers}, allow_redirects=False
        ) as answer:
            text = await answer.text(errors="replace")
            is_json = answer.content_type in ("application/json", "application/problem+json")
            return answer.status, json.loads(text) if is_json and text else text, answer.headers

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """What is at a path."""
        return await self.call("GET", path, **headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """What comes of a call."""
        return await self.call("POST", path, {} if body is None else body, **headers)

    async def events(self, method: str, path: str, body: Any = None, **headers: str) -> AsyncIterator[dict[str, str]]:
        """The events of a stream: `event`, `id` and `data`, each as far as it is there."""
        given = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **headers}
        content = None if body is None else json.dumps(body).encode()
        async with self.session.request(method, self.address + path, data=content, headers=given) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            event: dict[str, str] = {}
            async for line in answer.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    event[name] = value
                elif event:
                    yield event
                    event = {}


@dataclass
class Api:
    """A host whose API is served."""

    host: Host
    address: str

    async def token(self, name: str = "app", **options: Any) -> str:
        """A token."""
        return str((await self.host.do("token.add", name=name, **options))["token"])

    @asynccontextmanager
    async def program(self, name: str = "app", **options: Any) -> AsyncIterator[Program]:
        """A program with a token of its own."""
        async with aiohttp.ClientSession() as session:
            yield Program(self.address, await self.token(name, **options), session)

    @asynccontextmanager
    async def stranger(self, token: str | None = None) -> AsyncIterator[Program]:
        """A program without a token, or with what it takes for one."""
        async with aiohttp.ClientSession() as session:
            yield Program(self.address, token, session)


@asynccontextmanager
async def open_api(data: Path, **settings: Any) -> AsyncIterator[Api]:
    """A host whose API is served on a port of its own, until the block ends."""
    async with running(data, web={"port": 0}, **settings) as host, serving_page(host.services):
        yield Api(host, await host.services.page.on())
