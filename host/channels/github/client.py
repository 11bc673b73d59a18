"""GitHub's REST API: the one module that imports githubkit.

Answers are taken as JSON and not as the library's models: what people write must not decide whether a page of comments
can be read. The library never tries again by itself: the host does that, and tells of it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from githubkit import GitHub, TokenAuthStrategy
from githubkit.exception import GitHubException, RateLimitExceeded, RequestFailed, RequestTimeout

from host.channels.github.settings import GitHubSettings
from host.channels.protocol import ChannelUnavailable, DeliveryRefused, TokenRefused
from host.channels.unreachable import unreachable
from shared_schema.text import one_line

_SECONDS = 30.0
_PAGE = 100
_MOST_PAGES = 20
MOST_OBJECTS = _PAGE * _MOST_PAGES
"""Of a list: one that has so many may have more, which were not read."""
_LONGEST_SENTENCE = 200


@functools.cache
def _trusted() -> ssl.SSLContext:
    """The authorities of the system, which take a moment to load."""
    return ssl.create_default_context()


class NotThere(DeliveryRefused):
    """GitHub has nothing there, or shows it to others only."""


class NotModified(Exception):
    """Nothing is new there."""


class GitHubClient:
    """One account. Its methods raise as those of `Channel`."""

    def __init__(self, settings: GitHubSettings) -> None:
        for noisy in ("githubkit", "httpx", "httpcore"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self._settings = settings
        self._github = GitHub(
            TokenAuthStrategy(settings.token.get_secret_value()),
            base_url=settings.api_url,
            auto_retry=False,
            http_cache=False,
            ssl_verify=_trusted(),  # githubkit makes a connection for each request, and would load them for each
            timeout=_SECONDS,
            user_agent="dumbwaiter",
        )
        self._tags: dict[str, str] = {}
        self._date: tuple[datetime, float] | None = None  # of the last answer, and when it came by the loop's clock

    def now(self, otherwise: datetime) -> datetime:
        """The time by GitHub's clock, to the second: our own may be off by an hour. `otherwise` before any answer."""
        if self._date is None:
            return otherwise
        date, came = self._date
        return date + timedelta(seconds=int(asyncio.get_running_loop().time() - came))

    async def get(self, path: str, **parameters: str | int) -> Any:
        """One object. Raises `DeliveryRefused` where there is none, or it may not be seen."""
        return (await self._call("GET", path, parameters)).json()

    async def headers(self, path: str) -> dict[str, str]:
        """The headers of an answer: what the token may do is in them."""
        return dict((await self._call("GET", path, {})).headers)

    async def pages(self, path: str, **parameters: str | int) -> list[Any]:
        """All objects of a list, a bounded number."""
        return await self._pages(path, parameters, None)

    async def news(self, path: str, **parameters: str | int) -> list[Any]:
        """The same. Raises `NotModified` where it is the list of last time, which costs nothing."""
        return await self._pages(path, parameters, f"{path}?{sorted(parameters.items())}")

    async def newest(self, path: str, **parameters: str | int) -> list[Any]:
        """The newest objects of a list, one page of them. Raises as `news`."""
        asked: dict[str, str | int] = {**parameters, "sort": "created", "direction": "desc"}
        return await self._pages(path, asked, f"{path}?{sorted(asked.items())}", most=1)

    async def _pages(
        self, path: str, parameters: dict[str, str | int], known_as: str | None, *, most: int = _MOST_PAGES
    ) -> list[Any]:
        found: list[Any] = []
        objects: Any = None
        for page in range(1, most + 1):
            key = known_as if page == 1 else None
            tag = self._tags.get(key) if key is not None else None
            answer = await self._call("GET", path, {**parameters, "per_page": _PAGE, "page": page}, tag)
            if answer.status_code == 304:
                raise NotModified
            before, objects = objects, answer.json()
            if key is not None:
                is_all = most == 1 or not isinstance(objects, list) or len(objects) < _PAGE
                self._note_tag(key, answer.headers.get("etag"), is_all=is_all)
            if objects == before:  # it does not know pages, and has this one for every number
                break
            found += objects if isinstance(objects, list) else []
            if not isinstance(objects, list) or len(objects) < _PAGE:
                break
        return found

    def _note_tag(self, key: str, tag: str | None, *, is_all: bool) -> None:
        """Note by what the first page of a list is known; of a list that goes on, its news are on another page."""
        self._tags.pop(key, None)
        if tag is not None and is_all:
            self._tags = {key: tag, **self._tags} if len(self._tags) < 1_000 else {key: tag}

    def forget(self) -> None:
        """Ask for whole lists again: what came last was not taken."""
        self._tags.clear()

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """Make something."""
        return (await self._call("POST", path, {}, body=body)).json()

    async def patch(self, path: str, body: dict[str, Any]) -> None:
        """Change something."""
        await self._call("PATCH", path, {}, body=body)

    async def delete(self, path: str) -> None:
        """Take something away."""
        await self._call("DELETE", path, {})

    async def _call(
        self,
        method: str,
        path: str,
        parameters: dict[str, str | int],
        tag: str | None = None,
        *,
        body: dict[str, Any] | None = None,
    ) -> Any:
        async with self._told():
            answer = await self._github.arequest(
                method,
                path,
                params=parameters or None,
                json=body,
                headers={} if tag is None else {"If-None-Match": tag},
            )
            with suppress(ValueError, TypeError):
                date = parsedate_to_datetime(answer.headers.get("date", ""))
                self._date = (date.astimezone(UTC), asyncio.get_running_loop().time())
            return answer

    @asynccontextmanager
    async def _told(self) -> AsyncIterator[None]:
        """What the library raises as a sentence of ours."""
        try:
            yield
        except RateLimitExceeded as error:
            seconds = max(1.0, error.retry_after.total_seconds())
            raise ChannelUnavailable("GitHub asks to wait: too many requests", retry_after=seconds) from None
        except RequestFailed as error:
            self._raise(error)
        except RequestTimeout:
            raise ChannelUnavailable("GitHub does not answer") from None
        except (GitHubException, OSError, ValueError) as error:
            raise unreachable("GitHub", error) from None

    def _raise(self, error: RequestFailed) -> None:
        status = error.response.status_code
        try:
            said = error.response.json()
        except ValueError:
            said = {}
        sentence = one_line(str(said.get("message", "") if isinstance(said, dict) else ""), _LONGEST_SENTENCE)
        what = f"GitHub answered {status} {sentence}".strip()
        what = what.replace(self._settings.token.get_secret_value(), "…")
        if status == 401:
            raise TokenRefused(
                "GitHub does not take the access token", hint="make a new token for the account"
            ) from None
        if status == 403:
            needed = error.response.headers.get("x-accepted-github-permissions", "")
            if needed:
                what += f" (needed: {one_line(needed, _LONGEST_SENTENCE)})"
        if status in (404, 410):
            raise NotThere(what) from None
        if status in (403, 413, 422, 451):
            raise DeliveryRefused(what) from None
        raise ChannelUnavailable(what) from None
