"""The channel `github`. A repository is a chat, an issue or pull request a thread in it.

The repositories are asked for news over and over, and a webhook only tells earlier: what a lost webhook would have told
is found by asking, and reactions by that alone. Invariant: the time from which on a repository is asked moves only when
everything before it is on the disk. What comes twice, by both ways or because that was interrupted, is known by its id.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from host.channels.attempts import Attempts
from host.channels.github import events
from host.channels.github.client import MOST_OBJECTS, GitHubClient, NotModified, NotThere
from host.channels.github.events import GitHubAccount, Remark
from host.channels.github.marks import mark_in, mark_of, marked
from host.channels.github.reactions import CONTENTS, Reactions
from host.channels.github.receiver import WebhookReceiver
from host.channels.github.settings import GitHubSettings, is_repository
from host.channels.protocol import (
    BaseChannel,
    Button,
    Capabilities,
    ChannelRefused,
    ChannelUnavailable,
    Context,
    DeliveryRefused,
    Identity,
    Ingest,
    Outgoing,
)
from host.routing.event import Incoming
from shared_schema import json_text
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.rows import Address
from shared_schema.text import one_line

log = logging.getLogger(__name__)

MAX_TEXT = 60_000
"""Characters of a comment: GitHub takes 65,536, and the mark has to fit too."""
_OVERLAP = timedelta(seconds=60)
"""So long may GitHub take until a comment is in its lists: every question goes that far back."""
_MOST_SEEN = 20_000
_PATHS = {"comment": "issues/comments", "line": "pulls/comments", "issue": "issues"}


class GitHubChannel(BaseChannel):
    """One account."""

    type = "github"
    capabilities = Capabilities(
        formats=True,
        max_text=MAX_TEXT,
        takes_files=False,
        threads=True,
        edits=True,
        deletes=True,
        reactions=True,
        idempotent=True,
    )

    def __init__(self, settings: GitHubSettings, context: Context) -> None:
        self.name = context.name
        self._settings = settings
        self._context = context
        self._attempts = Attempts(context.state)
        self._client: GitHubClient | None = None
        self._receiver: WebhookReceiver | None = None
        self._ingest: Ingest | None = None
        self._me: GitHubAccount | None = None
        self._reactions: dict[str, Reactions] = {}
        self._seen: dict[str, str] = {}
        self.refused = 0
        """Events that the host did not take, since it was started."""

    @property
    def webhook_port(self) -> int:
        """The port on which webhooks are taken."""
        return 0 if self._receiver is None else self._receiver.port

    async def check(self) -> Identity:
        client = GitHubClient(self._settings)
        user = await client.get("/user")
        missing = []
        for repository in self._settings.repositories:
            try:
                found = await client.get(f"/repos/{repository}")
            except DeliveryRefused as error:
                missing.append(f"the repository {repository} cannot be seen by the token: {error.what}")
                continue
            if found.get("has_issues") is False:
                missing.append(f"issues are switched off in {repository}")
            if found.get("archived") is True:
                missing.append(f"{repository} is archived: nothing can be written there")
        return Identity(str(user["login"]), str(user.get("name") or user["login"]), tuple(missing))

    async def start(self, ingest: Ingest) -> None:
        await self.close()
        self._ingest = ingest
        client = GitHubClient(self._settings)
        try:
            user = await client.get("/user")
        except DeliveryRefused as error:
            raise ChannelRefused(error.what, hint="set `token` to one of the account's") from error
        self._client = client
        self._me = GitHubAccount(self.name, str(user["login"]), self._settings.label)
        if self._settings.webhook_secret is not None:
            secret = self._settings.webhook_secret.get_secret_value()
            self._receiver = WebhookReceiver(self.name, secret, self._context.state, self._webhook)
            await self._receiver.start(self._settings.webhook_host, self._settings.webhook_port)
        for repository in self._settings.repositories:
            if await self._place(repository) is None:  # old issues are not answered
                now = client.now(self._context.clock.now()).replace(microsecond=0)
                await self._keep_place(repository, now, now)
            reactions = self._reactions[repository] = Reactions(repository, self._context.state, _path)
            await reactions.begin(client, self._context.clock.now())
        self._context.health.heard()

    async def serve(self) -> None:
        while True:
            refused = []
            for repository in self._settings.repositories:
                try:
                    await self._poll(repository)
                    await self._reactions[repository].look(self._connected(), self._identity(), self._tell)
                except DeliveryRefused as error:  # this one alone; the others go on
                    refused.append(f"{repository}: {error.what}")
                    log.warning("a repository cannot be read", extra={"channel": self.name, "error": refused[-1]})
            if len(refused) == len(self._settings.repositories):
                raise ChannelRefused(
                    f"no repository can be read: {refused[0]}",
                    hint="give the token the right to read and write issues of these repositories",
                )
            self._context.health.heard()
            await asyncio.sleep(self._settings.poll_seconds)

    async def close(self) -> None:
        self._client = None
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            await receiver.close()

    async def deliver(self, message: Outgoing) -> str | None:
        client, repository = self._connected(), message.address.platform_id
        if not is_repository(repository):
            raise DeliveryRefused(f"'{repository[:80]}' is no repository")
        thread, mark = message.address.thread_id, mark_of(message.key)
        now = client.now(self._context.clock.now())
        if (before := await self._attempts.begin(mark, now.isoformat())) is not None:
            since = datetime.fromisoformat(before) - timedelta(minutes=5)
            if (found := await self._posted(client, repository, thread, mark, since)) is not None:
                return found
        body = marked(message.text, mark)
        if thread is None:
            title = next((line for line in message.text.splitlines() if line.strip()), "A message")
            made = await client.post(
                f"/repos/{repository}/issues", {"title": one_line(title.strip("#* "), 200), "body": body}
            )
            return f"issue-{made['number']}"
        made = await client.post(f"/repos/{repository}/issues/{_number(thread)}/comments", {"body": body})
        return f"comment-{made['id']}"

    async def edit(self, address: Address, platform_message_id: str, text: str, buttons: tuple[Button, ...]) -> None:
        client, path = self._connected(), _path(address.platform_id, platform_message_id)
        mark = mark_in(str((await client.get(path)).get("body") or ""))
        await client.patch(path, {"body": text if mark is None else marked(text, mark)})

    async def delete(self, address: Address, platform_message_id: str) -> None:
        if platform_message_id.startswith("issue-"):
            raise DeliveryRefused("an issue cannot be taken away, only its comments")
        with suppress(NotThere):
            await self._connected().delete(_path(address.platform_id, platform_message_id))

    async def react(self, address: Address, platform_message_id: str, emoji: str | None) -> None:
        client, path = self._connected(), f"{_path(address.platform_id, platform_message_id)}/reactions"
        if emoji is not None and emoji not in CONTENTS:
            raise DeliveryRefused(f"GitHub has only these reactions: {' '.join(dict.fromkeys(CONTENTS))}")
        me = self._identity().login
        for reaction in await client.pages(path):
            if reaction["user"]["login"] == me and reaction["content"] != CONTENTS.get(emoji or ""):
                await client.delete(f"{path}/{int(reaction['id'])}")
        if emoji is not None:
            await client.post(path, {"content": CONTENTS[emoji]})

    async def chat_name(self, platform_id: str) -> str | None:
        return platform_id

    async def _posted(
        self, client: GitHubClient, repository: str, thread: str | None, mark: str, since: datetime
    ) -> str | None:
        """The id of what was posted with a mark, if it was."""
        when = _when(since)
        if thread is None:
            found = await client.pages(f"/repos/{repository}/issues", state="all", since=when)
            return next((f"issue-{each['number']}" for each in found if mark in (each.get("body") or "")), None)
        found = await client.pages(f"/repos/{repository}/issues/{_number(thread)}/comments", since=when)
        return next((f"comment-{each['id']}" for each in found if mark in (each.get("body") or "")), None)

    async def _poll(self, repository: str) -> None:
        """Take what is new in a repository, oldest first."""
        client = self._connected()
        place = await self._place(repository)
        assert place is not None, "it was set at the start"
        since, first = place
        began = client.now(self._context.clock.now())
        question: dict[str, str | int] = {"since": _when(since - _OVERLAP), "sort": "updated", "direction": "asc"}
        posts: list[Remark] = []
        cut: list[str] = []  # up to when the lists go of which not all was read
        readers: tuple[tuple[str, Callable[[object], Remark | None]], ...] = (
            ("issues", events.issue),
            ("issues/comments", events.comment),
            ("pulls/comments", lambda content: events.comment(content, "line")),
        )
        for path, reader in readers:
            more = {"state": "all"} if path == "issues" else {}
            try:
                found = await client.news(f"/repos/{repository}/{path}", **question, **more)
            except NotModified:
                continue
            read = [post for content in found if (post := reader(content)) is not None]
            posts += read
            if read and len(found) >= MOST_OBJECTS:
                cut.append(max(post.changed for post in read))
        try:
            for post in sorted(posts, key=lambda post: post.changed):
                await self._take(client, repository, post, max(since - _OVERLAP, first))
        except BaseException:
            client.forget()  # or the next question would be answered with "nothing is new"
            raise
        if posts:
            # What GitHub says counts, and not our clock, which may be off by an hour.
            latest = max(post.changed for post in posts)
            # Of a list that goes on the rest is asked for next, unless so much has one time that there is no way on.
            if cut and (_time(min(cut)) or since) > since:
                latest = min(cut)
            await self._keep_place(
                repository, max(since, min(_time(latest) or since, began + timedelta(days=1))), first
            )

    async def _take(self, client: GitHubClient, repository: str, post: Remark, since: datetime) -> None:
        key = f"{repository} {post.id}"
        if self._seen.get(key) == post.changed:
            return
        me = self._identity()
        labels = post.labels
        created = _time(post.created)
        is_old = key in self._seen or (created is not None and created < since)
        if self._settings.label is not None and not post.id.startswith("issue-"):
            labels = await self._labels(client, repository, post.thread)
        event: Incoming | None = events.message(post, repository, me, labels)
        if is_old and not (post.id.startswith("issue-") and me.label is not None and me.label in labels):
            event = events.edit(post, repository, me)
        if event is not None:
            await self._tell(event)
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[key] = post.changed

    async def _labels(self, client: GitHubClient, repository: str, thread: str) -> frozenset[str]:
        found = events.issue(await client.get(f"/repos/{repository}/issues/{thread}"))
        return frozenset() if found is None else found.labels

    async def _webhook(self, kind: str, payload: Any) -> None:
        found = events.of_webhook(kind, payload, self._identity())
        if found is None:
            return
        repository, event = found
        if repository in self._settings.repositories:
            await self._tell(event)
            self._context.health.heard()

    async def _tell(self, event: Incoming) -> None:
        """Hand something over. What the host will never take is counted, and holds up nothing."""
        assert self._ingest is not None, "the channel has been started"
        try:
            await self._ingest(event)
        except InvalidValue as error:
            self.refused += 1
            extra = {"channel": self.name, "reason": error.what, "refused": self.refused}
            log.warning("an event was refused", extra=extra)
        except DumbwaiterError as error:
            raise ChannelUnavailable(f"an event cannot be kept: {error.what}") from error

    async def _place(self, repository: str) -> tuple[datetime, datetime] | None:
        """From when on a repository is asked, and when it was asked for the first time."""
        text = await self._context.state.get(f"since-{repository}")
        content = None if text is None else json_text.parse(text)
        if content is None:
            return None
        return datetime.fromisoformat(content["since"]), datetime.fromisoformat(content["first"])

    async def _keep_place(self, repository: str, since: datetime, first: datetime) -> None:
        content = {"since": since.isoformat(), "first": first.isoformat()}
        await self._context.state.set(f"since-{repository}", json.dumps(content))

    def _connected(self) -> GitHubClient:
        if self._client is None:
            raise ChannelUnavailable("it is not connected to GitHub")
        return self._client

    def _identity(self) -> GitHubAccount:
        if self._me is None:
            raise ChannelUnavailable("it is not connected to GitHub")
        return self._me


def _when(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _number(thread: str) -> int:
    if not (thread.isascii() and thread.isdigit() and len(thread) < 12):
        raise DeliveryRefused(f"'{thread[:40]}' is no number of an issue or pull request")
    return int(thread)


def _path(repository: str, message_id: str) -> str:
    kind, _, number = message_id.partition("-")
    if not is_repository(repository) or kind not in _PATHS:
        raise DeliveryRefused(f"'{message_id[:40]}' is no comment that can be changed")
    return f"/repos/{repository}/{_PATHS[kind]}/{_number(number)}"
