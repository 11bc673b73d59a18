"""Reactions of people, which no webhook tells of and which change no date: found by looking at the newest messages.

The lists say of each message how many reactions it has of each kind; those of a message are asked for one by one only
where that has changed. Invariant: the time up to which they were told moves only when all before it are on the disk.
What was taken back while the host was away is not told.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from host.channels.github import events
from host.channels.github.client import GitHubClient, NotModified, NotThere
from host.channels.github.events import GitHubAccount, Remark
from host.channels.protocol import ChannelState
from host.latest import Latest
from host.routing.event import Incoming, Reacted
from shared_schema import json_text
from shared_schema.dataclass import dataclass
from shared_schema.rows import Address

CONTENTS = {
    "👍": "+1", "👎": "-1", "😄": "laugh", "😕": "confused", "❤️": "heart", "❤": "heart", "🎉": "hooray",
    "🚀": "rocket", "👀": "eyes",
}  # fmt: skip
"""What GitHub calls each of its reactions."""
_CHARACTERS = {content: emoji for emoji, content in reversed(CONTENTS.items())}
_MOST_MESSAGES = 3_000
_MOST_TOLD = 300
_LISTS: tuple[tuple[str, Callable[[object], Remark | None]], ...] = (
    ("issues/comments", events.comment),
    ("issues", events.issue),
    ("pulls/comments", lambda content: events.comment(content, "line")),
)


@dataclass(frozen=True, slots=True)
class PutReaction:
    """One reaction that is on a message: its id, who put it, which, and when (RFC 3339)."""

    id: int
    login: str
    emoji: str
    created: str


@dataclass(slots=True)
class _Known:
    """What was seen on a message at the last look."""

    summary: str
    reactions: dict[int, PutReaction]


class Reactions:
    """The reactions in one repository. `tell` hands one over; `path_of` gives where a message is, by its id."""

    def __init__(self, repository: str, state: ChannelState, path_of: Callable[[str, str], str]) -> None:
        self._repository = repository
        self._state = state
        self._path_of = path_of
        self._known = Latest[str, _Known](_MOST_MESSAGES)
        self._since: str | None = None
        self._told: dict[int, None] = {}

    async def begin(self, client: GitHubClient, now: datetime) -> None:
        """Take up what the last host has noted. Nothing before the first start is told."""
        kept = await self._state.get(self._key)
        content = None if kept is None else json_text.parse(kept)
        if isinstance(content, dict):
            self._since = str(content["since"])
            self._told = dict.fromkeys(content["told"])
        else:
            self._since = client.now(now).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            await self._keep()

    async def look(self, client: GitHubClient, me: GitHubAccount, tell: Callable[[Incoming], Awaitable[None]]) -> None:
        """Tell of what people have put and taken back since the last look."""
        for path, read in _LISTS:
            try:
                more = {"state": "all"} if path == "issues" else {}
                found = await client.newest(f"/repos/{self._repository}/{path}", **more)
            except NotModified:
                continue
            try:
                for content in found:
                    post = read(content)
                    if post is not None:
                        await self._look_at(client, post, summary_of(content), me, tell)
            except BaseException:
                client.forget()  # or the next look would find that nothing is new
                raise

    async def _look_at(
        self,
        client: GitHubClient,
        post: Remark,
        summary: str,
        me: GitHubAccount,
        tell: Callable[[Incoming], Awaitable[None]],
    ) -> None:
        before = self._known.get(post.id)
        if (before.summary if before is not None else "") == summary:
            return
        try:
            path = f"{self._path_of(self._repository, post.id)}/reactions"
            reactions = {each.id: each for each in map(read_reaction, await client.pages(path)) if each is not None}
        except NotThere:  # the message was taken away meanwhile
            return
        old = {} if before is None else before.reactions
        address, is_told = Address(me.channel, self._repository, post.thread), False
        for each in reactions.values():
            if each.id not in old and self._is_new(each) and each.login.lower() != me.login.lower():
                await tell(Reacted(address, post.id, each.emoji, each.login, each.login))
                self._note(each)
                is_told = True
        for each in old.values():
            if each.id not in reactions and each.login.lower() != me.login.lower():
                await tell(Reacted(address, post.id, None, each.login, each.login, each.emoji))
        if is_told:
            await self._keep()
        # Last: what was interrupted before this is looked at again, and known by its key.
        self._known[post.id] = _Known(summary, reactions)

    def _is_new(self, reaction: PutReaction) -> bool:
        return reaction.id not in self._told and (self._since is None or reaction.created >= self._since)

    def _note(self, reaction: PutReaction) -> None:
        # The time alone is not enough: two may come in one second, and an older one be found later.
        self._told[reaction.id] = None
        if len(self._told) > _MOST_TOLD:
            del self._told[next(iter(self._told))]
            self._since = max(self._since or "", reaction.created)

    async def _keep(self) -> None:
        await self._state.set(self._key, json.dumps({"since": self._since, "told": list(self._told)}))

    @property
    def _key(self) -> str:
        return f"reactions-{self._repository}"


def read_reaction(content: object) -> PutReaction | None:
    """A reaction of a person, as the API has it; None for what is none, or a machine's. Takes any JSON."""
    if not isinstance(content, Mapping):
        return None
    user, number = content.get("user"), content.get("id")
    login = events.person_in(user)
    emoji, created = _CHARACTERS.get(str(content.get("content"))), content.get("created_at")
    if login is None or emoji is None or not isinstance(created, str) or len(created) > 40:
        return None
    # A number that cannot be read back from what is kept would end the channel at each start from then on.
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 2**53:
        return None
    return PutReaction(number, login, emoji, created)


def summary_of(content: Any) -> str:
    """How many reactions of each kind a message has, as a text to compare; empty where there are none."""
    counts = content.get("reactions") if isinstance(content, Mapping) else None
    if not isinstance(counts, Mapping):
        return ""
    numbers = {kind: counts.get(kind) for kind in _CHARACTERS}
    return " ".join(f"{kind}:{count}" for kind, count in numbers.items() if isinstance(count, int) and count > 0)
