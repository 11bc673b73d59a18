"""Issues, comments and webhooks of GitHub: whoever may comment writes what they like into them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from host.channels.github.events import MAX_TEXT, GitHubAccount, comment, issue, message, of_webhook
from host.channels.github.marks import mark_in, mark_of, marked, without_mark
from host.routing.event import Event
from shared_schema.errors import InvalidValue
from tests.fuzz.target import Drive, Target
from tests.fuzz.values import ANY_TEXT, JSON_VALUES, REPEATED, nearly_right

_ME = GitHubAccount("github", "dw-bot", "ask")
_TIMES = st.sampled_from(("2026-01-01T00:00:00Z", "yesterday", "", "9999-99-99"))
_USERS = nearly_right(JSON_VALUES, login=("ann", "dw-bot", "ci[bot]", "x" * 100, "a b"), type=("User", "Bot"))
_TEXTS = ANY_TEXT | REPEATED | st.sampled_from(("@dw-bot hi", "@" * 50_000, "<!-- dumbwaiter:" * 3_000, mark_of("a")))
_POSTS = nearly_right(
    JSON_VALUES,
    id=st.integers(-1, 2**60),
    number=st.integers(-1, 2**60),
    title=_TEXTS,
    body=_TEXTS,
    path=ANY_TEXT,
    user=_USERS,
    created_at=_TIMES,
    updated_at=_TIMES,
    labels=st.lists(st.fixed_dictionaries({"name": ANY_TEXT | st.just("ask")}) | JSON_VALUES, max_size=3),
    issue_url=("https://x/issues/7", "https://x/issues/" + "9" * 50_000, "x"),
    pull_request_url=("https://x/pulls/7",),
)
_PAYLOADS = st.tuples(
    st.sampled_from(
        ("issues", "pull_request", "issue_comment", "pull_request_review_comment", "pull_request_review", "x")
    ),
    nearly_right(
        JSON_VALUES,
        action=("created", "opened", "edited", "deleted", "submitted", "labeled"),
        repository=st.fixed_dictionaries({"full_name": st.sampled_from(("acme/rocket", "../x", ""))}),
        issue=_POSTS,
        pull_request=_POSTS,
        comment=_POSTS,
        review=_POSTS,
    ),
)


@contextmanager
def _webhook(folder: Path) -> Iterator[Drive]:
    def drive(value: tuple[str, Any]) -> None:
        kind, payload = value
        found = of_webhook(kind, payload, _ME)
        if found is not None and isinstance(found[1], Event):
            assert len(found[1].text) <= MAX_TEXT + 400
            found[1].require_identifiers()
        for content in payload.values() if isinstance(payload, dict) else ():
            for post in (issue(content), comment(content), comment(content, "line")):
                if post is not None:
                    message(post, "acme/rocket", _ME, frozenset())

    yield drive


@contextmanager
def _marks(folder: Path) -> Iterator[Drive]:
    def drive(text: str) -> None:
        mark = mark_of("key")
        assert mark_in(marked(text, mark)) == mark
        assert mark_in(without_mark(text)) is None

    yield drive


HUB = (
    Target("github-webhook", _webhook, _PAYLOADS, (InvalidValue,)),
    Target("github-marks", _marks, _TEXTS, (), known=(f"<!-- dumbwaiter:{mark_of('a')}{'0' * 40} -->",)),
)
