"""GitHub's REST API and its webhooks, as far as a bot in issues needs them, as docs.github.com has them.

`checked` reads each kind of object with the library's own models. A call that is not known here fails the test.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.wait import until

TOKEN = "github_pat_canary_4f1d7a90"
BOT = "dw-bot"
REPOSITORY = "acme/rocket"


@dataclass
class GitHubApi:
    """One repository, its issues and comments, and what the bot did there. `fails` are the next answers to POSTs."""

    url: str = ""
    issues: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: dict[int, dict[str, Any]] = field(default_factory=dict)
    lines: dict[int, dict[str, Any]] = field(default_factory=dict)
    reactions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    fails: list[int] = field(default_factory=list)
    drops_after: int = 0
    drops_before: int = 0
    slow: float = 0.0
    hangs: int = 0
    retry_after: str | None = None
    token: str = TOKEN
    posts: int = 0
    polls: int = 0
    not_modified: int = 0
    unknown: list[str] = field(default_factory=list)
    is_visible: bool = True
    _number: int = 0
    _runner: web.AppRunner | None = None
    _port: int = 0

    async def start(self) -> None:
        """Answer. Also again after `stop`, on the same port."""
        application = web.Application(middlewares=[self._guard])
        base = "/repos/{owner}/{name}"
        add = application.router.add_route
        add("GET", "/user", self._user)
        add("GET", base, self._repository)
        add("GET", f"{base}/issues", self._list_issues)
        add("POST", f"{base}/issues", self._make_issue)
        add("GET", f"{base}/issues/comments", self._list_comments)
        add("GET", f"{base}/pulls/comments", self._list_lines)
        add("GET", f"{base}/issues/comments/{{id}}", self._get_comment)
        add("PATCH", f"{base}/issues/comments/{{id}}", self._edit_comment)
        add("DELETE", f"{base}/issues/comments/{{id}}", self._delete_comment)
        add("GET", f"{base}/issues/{{number}}", self._get_issue)
        add("PATCH", f"{base}/issues/{{number}}", self._edit_issue)
        add("GET", f"{base}/issues/{{number}}/comments", self._list_of_issue)
        add("GET", f"{base}/issues/{{id}}/reactions", self._list_reactions)
        add("POST", f"{base}/issues/{{id}}/reactions", self._make_reaction)
        add("DELETE", f"{base}/issues/{{id}}/reactions/{{reaction}}", self._delete_reaction)
        add("POST", f"{base}/issues/{{number}}/comments", self._make_comment)
        add("GET", f"{base}/issues/comments/{{id}}/reactions", self._list_reactions)
        add("POST", f"{base}/issues/comments/{{id}}/reactions", self._make_reaction)
        add("DELETE", f"{base}/issues/comments/{{id}}/reactions/{{reaction}}", self._delete_reaction)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Answer no more."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # What people do.

    def open_issue(self, title: str, body: str, *, by: str = "ann", labels: tuple[str, ...] = ()) -> int:
        """Somebody opens an issue; its number."""
        number = self._next()
        self.issues[number] = {
            **self._object(number, body, by),
            "number": number,
            "title": title,
            "state": "open",
            "labels": [{"name": label} for label in labels],
            "html_url": f"https://github.test/{REPOSITORY}/issues/{number}",
        }
        return number

    def comment(self, number: int, body: str, *, by: str = "ann", kind: str = "User") -> int:
        """Somebody comments; the comment's id."""
        identifier = self._next()
        self.comments[identifier] = {
            **self._object(identifier, body, by, kind),
            "issue_url": f"{self.url}/repos/{REPOSITORY}/issues/{number}",
        }
        return identifier

    def edit_issue(self, number: int, body: str) -> None:
        """Somebody changes what an issue says."""
        self.issues[number] |= {"body": body, "updated_at": now_in(1)}

    def edit_comment(self, identifier: int, body: str) -> None:
        """Somebody changes a comment."""
        self.comments[identifier] |= {"body": body, "updated_at": now_in(1)}

    def react_by(self, login: str, identifier: int, content: str | None, *, kind: str = "User") -> None:
        """Somebody puts a reaction on an issue or a comment, or takes theirs away. No date of it changes."""
        there = self.reactions.setdefault(str(identifier), [])
        if content is None:
            there[:] = [each for each in there if each["user"]["login"] != login]
        else:
            there.append(self._reaction(content, login, kind))

    def label(self, number: int, *labels: str) -> None:
        """Somebody labels an issue."""
        self.issues[number] |= {"labels": [{"name": label} for label in labels], "updated_at": now_in(1)}

    async def webhook(
        self, url: str, secret: str, kind: str, payload: dict[str, Any], *, delivery: str | None = None
    ) -> int:
        """Tell of something; the status of the answer."""
        body = json.dumps({"repository": {"full_name": REPOSITORY}, **payload}).encode()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": kind,
            "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
            "X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        }
        async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
            return answer.status

    def by_bot(self) -> list[dict[str, Any]]:
        """The comments of the bot, oldest first."""
        return [comment for comment in self.comments.values() if comment["user"]["login"] == BOT]

    async def got(self, count: int) -> list[dict[str, Any]]:
        """Wait until the bot has written so many comments."""
        await until(lambda: len(self.by_bot()) >= count, f"{count} comments of the bot", 60)
        return self.by_bot()

    async def said(self, text: str) -> dict[str, Any]:
        """Wait until the bot has written a comment that begins so."""
        await until(lambda: any(each["body"].startswith(text) for each in self.by_bot()), f"the bot says '{text}'", 60)
        return next(each for each in self.by_bot() if each["body"].startswith(text))

    # What the API answers.

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") not in (f"token {self.token}", f"Bearer {self.token}"):
            return _error(401, "Bad credentials")
        try:
            if request.method == "POST" and "reactions" not in request.path:
                self.posts += 1
                await asyncio.sleep(self.slow)
                if self.hangs:
                    self.hangs -= 1
                    await asyncio.Event().wait()
                if self.drops_before:
                    self.drops_before -= 1
                    assert request.transport is not None
                    request.transport.abort()
                    return web.Response()
                if self.fails:
                    status = self.fails.pop(0)
                    headers = {} if self.retry_after is None else {"Retry-After": self.retry_after}
                    return _error(status, "no", headers)
            answer: web.StreamResponse = await handler(request)
        except web.HTTPNotFound:
            self.unknown.append(f"{request.method} {request.path}")
            return _error(501, f"this fake does not know {request.method} {request.path}")
        if request.method == "POST" and self.drops_after and "reactions" not in request.path:
            self.drops_after -= 1
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def _user(self, request: web.Request) -> web.Response:
        return web.json_response({"login": BOT, "name": "The bot", "id": 1, "type": "User"})

    async def _repository(self, request: web.Request) -> web.Response:
        if not self._is_ours(request):
            return _error(404, "Not Found")
        return web.json_response({"full_name": REPOSITORY, "has_issues": True, "archived": False})

    async def _list_issues(self, request: web.Request) -> web.Response:
        self.polls += 1
        return self._list(request, list(self.issues.values()))

    async def _list_comments(self, request: web.Request) -> web.Response:
        return self._list(request, list(self.comments.values()))

    async def _list_lines(self, request: web.Request) -> web.Response:
        return self._list(request, list(self.lines.values()))

    async def _list_of_issue(self, request: web.Request) -> web.Response:
        end = f"/issues/{request.match_info['number']}"
        return self._list(request, [each for each in self.comments.values() if each["issue_url"].endswith(end)])

    async def _get_issue(self, request: web.Request) -> web.Response:
        found = self.issues.get(int(request.match_info["number"]))
        return _error(404, "Not Found") if found is None else web.json_response(found)

    async def _get_comment(self, request: web.Request) -> web.Response:
        found = self.comments.get(int(request.match_info["id"]))
        return _error(404, "Not Found") if found is None else web.json_response(found)

    async def _make_issue(self, request: web.Request) -> web.Response:
        body = await request.json()
        number = self.open_issue(body["title"], body["body"], by=BOT)
        return web.json_response(self.issues[number], status=201)

    async def _make_comment(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        if number not in self.issues:
            return _error(404, "Not Found")
        body = (await request.json())["body"]
        assert len(body) <= 65_536, "GitHub takes 65,536 characters"
        identifier = self.comment(number, body, by=BOT)
        return web.json_response(self.comments[identifier], status=201)

    async def _edit_issue(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        self.edit_issue(number, (await request.json())["body"])
        return web.json_response(self.issues[number])

    async def _edit_comment(self, request: web.Request) -> web.Response:
        identifier = int(request.match_info["id"])
        self.edit_comment(identifier, (await request.json())["body"])
        return web.json_response(self.comments[identifier])

    async def _delete_comment(self, request: web.Request) -> web.Response:
        if self.comments.pop(int(request.match_info["id"]), None) is None:
            return web.json_response({"message": "Not Found"}, status=404)
        return web.Response(status=204)

    async def _list_reactions(self, request: web.Request) -> web.Response:
        return web.json_response(self.reactions.get(request.match_info["id"], []))

    async def _make_reaction(self, request: web.Request) -> web.Response:
        content = (await request.json())["content"]
        assert content in ("+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes")
        made = self._reaction(content, BOT, "User")
        self.reactions.setdefault(request.match_info["id"], []).append(made)
        return web.json_response(made, status=201)

    async def _delete_reaction(self, request: web.Request) -> web.Response:
        there = self.reactions[request.match_info["id"]]
        there[:] = [each for each in there if str(each["id"]) != request.match_info["reaction"]]
        return web.Response(status=204)

    def _list(self, request: web.Request, objects: list[dict[str, Any]]) -> web.Response:
        if not self._is_ours(request):
            return _error(404, "Not Found")
        since = request.query.get("since", "")
        page, size = int(request.query.get("page", "1")), int(request.query.get("per_page", "30"))
        assert size <= 100
        order = "updated_at" if request.query.get("sort") == "updated" else "created_at"
        found = sorted((each for each in objects if each["updated_at"] >= since), key=lambda each: each[order])
        if request.query.get("direction") == "desc":
            found.reverse()
        found = [each | self.summary(each) for each in found[(page - 1) * size : page * size]]
        tag = '"' + hashlib.sha256(json.dumps(found).encode()).hexdigest() + '"'
        if request.headers.get("If-None-Match") == tag:
            self.not_modified += 1
            return web.Response(status=304, headers={"ETag": tag})
        return web.json_response(found, headers={"ETag": tag})

    def _reaction(self, content: str, login: str, kind: str) -> dict[str, Any]:
        user = {"login": login, "id": 7, "type": kind}
        return {"id": self._next(), "content": content, "user": user, "created_at": now_in()}

    def summary(self, thing: dict[str, Any]) -> dict[str, Any]:
        """How many reactions there are of each kind: of an issue they are under its number."""
        there = self.reactions.get(str(thing.get("number", thing["id"])), [])
        kinds = ("+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes")
        counts = {kind: sum(each["content"] == kind for each in there) for kind in kinds}
        return {"reactions": {"url": "", "total_count": len(there), **counts}}

    def _is_ours(self, request: web.Request) -> bool:
        return self.is_visible and f"{request.match_info['owner']}/{request.match_info['name']}" == REPOSITORY

    def _object(self, identifier: int, body: str, by: str, kind: str = "User") -> dict[str, Any]:
        now = now_in()
        return {
            "id": identifier,
            "body": body,
            "user": {"login": by, "id": 7, "type": kind},
            "created_at": now,
            "updated_at": now,
        }

    def _next(self) -> int:
        self._number += 1
        return self._number


@asynccontextmanager
async def github_api() -> AsyncIterator[GitHubApi]:
    """The API on a free port of the loopback. Fails at the end if it was asked what it does not know."""
    api = GitHubApi()
    await api.start()
    try:
        yield api
    finally:
        await api.stop()
    assert api.unknown == []


def now_in(later: int = 0) -> str:
    """The time in so many seconds, as GitHub writes it."""
    return datetime.fromtimestamp(datetime.now(UTC).timestamp() + later, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"message": message}, status=status, headers=headers or {})
