"""What the page says, in every language; and what others said, as HTML in which nothing runs."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from host.web import guard
from host.web.markdown import to_html
from host.web.pages.agents import chart
from host.web.sign_in import AttemptLimit
from host.web.templates import language_of
from tests.conftest import ROOT
from tests.web import pictures
from tests.web.catalogue import LOCALE, OTHERS, compiled, said, translated
from tests.web.hostile import TEXTS


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_of_the_page_has_a_translation(language: str) -> None:
    known = {message.id: message.string for message in translated(language) if message.id}

    lacking = [message.id for message in said() if message.id and not all(_strings(known.get(message.id, "")))]
    assert lacking == [], (
        f"`.venv/bin/python -m tests.web.catalogue` adds them to host/web/locale/{language}.po: translate them there, "
        "and call it again"
    )
    assert (LOCALE / f"{language}.mo").read_bytes() == compiled(translated(language)), (
        "`.venv/bin/python -m tests.web.catalogue` compiles it"
    )


def _strings(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("de-AT,de;q=0.9,en;q=0.8", "de"), ("fr,en;q=0.5", "en"), ("", "en"), ("fr, de", "de"), ("*" * 5000, "en")],
)
def test_the_language_is_the_first_one_that_the_browser_takes_and_there_is(accepted: str, language: str) -> None:
    assert language_of(accepted) == language


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


ALLOWED = {
    "p", "blockquote", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "strong", "em", "del", "code",
    "pre", "a", "span", "br", "hr", "h3", "h4", "h5", "h6",
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_that_was_said_becomes_anything_but_text_and_links_of_the_web(text: str) -> None:
    tags = _Tags()
    tags.feed(str(to_html(text)))

    assert {tag for tag, _ in tags.found} <= ALLOWED
    for tag, attributes in tags.found:
        assert set(attributes) <= {"href", "target", "rel", "class", "start", "title", "tabindex", "data-language"}
        assert tag != "a" or str(attributes["href"]).startswith(("http://", "https://", "mailto:"))


def test_markdown_is_shown_in_blocks() -> None:
    shown = str(
        to_html(
            "# Title\n\nwith **bold** and `code`\n\n1. one\n\n```python\nx < 1\n```\n\n| a | b |\n|--|-:|\n| 1 | 2 |"
        )
    )

    assert "<h3>Title</h3><p>with <strong>bold</strong> and <code>code</code></p>" in shown
    assert '<pre tabindex="0" data-language="python"><code>x &lt; 1\n</code></pre>' in shown
    assert '<td class="right">2</td>' in shown


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1:8384", True), ("localhost", True), ("[::1]:80", True), ("LOCALHOST:1", True),
        ("page.example", True),
        ("evil.example", False), ("127.0.0.1.evil.example", False), ("", False), ("localhost:x", False),
        ("127.0.0.1:80@evil.example", False), ("[::1]evil", False),
    ],
)  # fmt: skip
def test_only_names_of_the_page_are_answered(host: str, is_own: bool) -> None:
    assert guard.is_own_host(host, guard.names("127.0.0.1", ["Page.example"])) is is_own


def test_what_changes_something_must_come_from_the_page_itself() -> None:
    ours = "http://localhost:8384"
    assert guard.is_own_origin(ours, "same-origin", ours)
    assert guard.is_own_origin(ours, None, ours)
    for origin, site in (
        (None, None),
        ("null", None),
        ("http://evil.example", None),
        (ours, "cross-site"),
        (f"{ours}0", None),
    ):
        assert not guard.is_own_origin(origin, site, ours)
    assert not guard.is_own_origin(ours, "same-origin", guard.origin_of("localhost:8384", is_tls=True))


def test_tries_to_sign_in_are_limited_for_each_address_and_in_all() -> None:
    limit = AttemptLimit()
    assert [limit.allows("one", 1.0) for _ in range(11)] == [True] * 10 + [False]
    assert limit.allows("two", 1.0)
    assert limit.allows("one", 70.0)
    assert sum(limit.allows(str(number), 200.0) for number in range(100)) == 60


def test_a_day_without_use_has_a_bar_that_can_be_pointed_at() -> None:
    row = {
        "day": "2026-01-02",
        "input_tokens": 7,
        "output_tokens": 3,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "cost_usd": 0.5,
    }
    drawn = chart(["2026-01-01", "2026-01-02"], [row])
    assert [(bar["tokens"], bar["height"]) for bar in drawn["bars"]] == [(0, 0.3), (10, 30.0)]
    assert not drawn["is_empty"]


def test_a_host_without_the_page_imports_nothing_of_it() -> None:
    code = (
        "import sys, host.daemon, host.cli.root; "
        "print(sorted(m for m in sys.modules if m.partition('.')[0] in ('jinja2', 'markupsafe', 'prometheus_client')"
        " or m in ('host.web.server', 'host.web.site', 'host.http_api.access', 'host.http_api.mcp_api', 'acp')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_documents_show_each_page_as_it_is_pictured_and_no_picture_is_missing_or_left_over() -> None:
    said = (ROOT / "docs/web.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"!\[[^\]]+\]\(web/([^)]+)\)", said))
    taken = {pictures.file_of(page, look.name) for page in pictures.PAGES for look in pictures.LOOKS}
    assert shown == taken
    kept = {path.name: path.stat().st_size for path in (ROOT / "docs/web").iterdir() if path.suffix != ".json"}
    assert kept.keys() == taken
    assert sum(kept.values()) < 3_000_000
    for name in ("README.md", "docs/web.md"):
        file = ROOT / name
        links = re.findall(r"!\[[^\]]*\]\(([^):]+)\)", file.read_text(encoding="utf-8"))
        assert [each for each in links if not (file.parent / each).exists()] == []
