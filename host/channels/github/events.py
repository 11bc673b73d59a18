"""From the objects of GitHub's API and webhooks to what the host is told. Pure; takes any JSON.

The objects are the same in both: an issue (a pull request is one), a comment, a comment on a line of a pull request, a
review. A message's id is `issue-7`, `comment-7`, `line-7` or `review-7`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from host.channels.github.marks import without_mark
from host.channels.github.settings import is_repository
from host.routing.event import Deleted, Edited, Event, Incoming
from shared_schema.dataclass import dataclass
from shared_schema.rows import Address
from shared_schema.text import one_line

MAX_TEXT = 300_000
_LOGIN = re.compile(r"[A-Za-z0-9-]{1,39}(?:\[bot\])?")
_NUMBER = re.compile(r"/(?:issues|pull|pulls)/([0-9]{1,10})$")


@dataclass(frozen=True, slots=True)
class GitHubAccount:
    """The bot: the channel's name, its login, the label that engages it, and how often it was meant by its name."""

    channel: str
    login: str
    label: str | None = None

    def is_meant(self, text: str, labels: frozenset[str]) -> bool:
        """Whether a text mentions the bot, or its issue has the label."""
        if self.label is not None and self.label in labels:
            return True
        return (
            re.search(rf"(?<![A-Za-z0-9/-])@{re.escape(self.login)}(?![A-Za-z0-9-])", text, re.IGNORECASE) is not None
        )


@dataclass(frozen=True, slots=True)
class Remark:
    """An issue or a comment as far as it can be read. `changed` is when it was last edited or labelled (RFC 3339)."""

    id: str
    thread: str
    text: str
    author: str
    created: str
    changed: str
    is_machine: bool
    labels: frozenset[str] = frozenset()
    title: str | None = None


def issue(content: object) -> Remark | None:
    """An issue or a pull request; its title is the first line of its text."""
    fields = _dict(content)
    number = _whole(fields.get("number"))
    if number is None:
        return None
    title = one_line(_text(fields.get("title")), 300)
    found = _post(fields, f"issue-{number}", str(number), _labels(fields))
    if found is None:
        return None
    text = f"{title}\n\n{found.text}".strip()
    return Remark(
        found.id, found.thread, text, found.author, found.created, found.changed, found.is_machine, found.labels, title
    )


def comment(content: object, kind: str = "comment") -> Remark | None:
    """A comment of an issue or pull request, or (`line`) on a line of one."""
    fields = _dict(content)
    found = _NUMBER.search(_text(fields.get("issue_url") or fields.get("pull_request_url"))[:500])
    identifier = _whole(fields.get("id"))
    if found is None or identifier is None:
        return None
    post = _post(fields, f"{kind}-{identifier}", found[1], frozenset())
    if post is None or kind != "line":
        return post
    where = one_line(_text(fields.get("path")), 300)
    text = f"{where}:\n\n{post.text}" if where else post.text
    return Remark(post.id, post.thread, text, post.author, post.created, post.changed, post.is_machine)


def message(post: Remark, repository: str, me: GitHubAccount, labels: frozenset[str]) -> Event | None:
    """The event of a post; None for what the bot or another machine has written, or of a text that is empty."""
    if post.is_machine or post.author.lower() == me.login.lower() or not post.text:
        return None
    return Event(
        address=Address(me.channel, repository, post.thread),
        platform_message_id=post.id,
        text=without_mark(post.text),
        sender_id=post.author,
        sender_name=post.author,
        is_mention=me.is_meant(post.text, labels | post.labels),
        is_group=True,
        chat_name=repository,
    )


def edit(post: Remark, repository: str, me: GitHubAccount) -> Edited | None:
    """The edit of a post, as `message` has it."""
    event = message(post, repository, me, frozenset())
    if event is None:
        return None
    return Edited(event.address, post.id, event.text, event.sender_id)


def of_webhook(kind: str, payload: object, me: GitHubAccount) -> tuple[str, Incoming] | None:
    """The repository and what has happened there, by the body of a webhook; None for what the host is not told."""
    body = _dict(payload)
    repository, action = _text(_dict(body.get("repository")).get("full_name")), body.get("action")
    if not is_repository(repository):
        return None
    match kind:
        case "issues" | "pull_request":
            content = body.get("issue" if kind == "issues" else "pull_request")
            post, labels = issue(content), _labels(_dict(content))
        case "issue_comment":
            post, labels = comment(body.get("comment")), _labels(_dict(body.get("issue")))
        case "pull_request_review_comment":
            post, labels = comment(body.get("comment"), "line"), _labels(_dict(body.get("pull_request")))
        case "pull_request_review":
            review = {**_dict(body.get("review"))}
            review.setdefault("created_at", review.get("submitted_at"))
            post, labels = comment(review, "review"), _labels(_dict(body.get("pull_request")))
        case _:
            return None
    if post is None:
        return None
    found: Incoming | None = None
    if action in ("created", "opened", "submitted", "labeled", "reopened"):
        found = message(post, repository, me, labels)
    elif action == "edited":
        found = edit(post, repository, me)
    elif action in ("deleted", "dismissed"):
        found = Deleted(Address(me.channel, repository, post.thread), post.id)
    return None if found is None else (repository, found)


def _post(fields: Mapping[str, Any], identifier: str, thread: str, labels: frozenset[str]) -> Remark | None:
    user = _dict(fields.get("user"))
    author = _text(user.get("login"))
    created = _text(fields.get("created_at"))[:40]
    if not _LOGIN.fullmatch(author) or not created.isprintable():
        return None
    return Remark(
        identifier,
        thread,
        _text(fields.get("body"))[:MAX_TEXT].replace("\r\n", "\n"),
        author,
        created,
        _text(fields.get("updated_at"))[:40] or created,
        is_machine=_is_machine(user),
        labels=labels,
    )


def person_in(user: object) -> str | None:
    """The login of a user object; None for a machine, and for what is none."""
    fields = _dict(user)
    login = _text(fields.get("login"))
    return None if _is_machine(fields) or not _LOGIN.fullmatch(login) else login


def _is_machine(user: Mapping[str, Any]) -> bool:
    return user.get("type") == "Bot" or _text(user.get("login")).endswith("[bot]")


def _labels(fields: Mapping[str, Any]) -> frozenset[str]:
    labels = fields.get("labels")
    if not isinstance(labels, list):
        return frozenset()
    return frozenset(_text(_dict(label).get("name"))[:100] for label in labels[:100])


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53 else None
