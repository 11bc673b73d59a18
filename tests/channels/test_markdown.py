"""What agents write in Markdown, as platforms show it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from host.channels.discord.text import to_discord
from host.channels.html import to_html as to_mail
from host.channels.markdown import MAX_NESTING, MOST_MARKS, Style, columns, marks_in, render
from host.channels.slack.text import to_mrkdwn
from host.channels.telegram.text import to_html, to_plain, utf16_slice, utf16_units
from host.web import markdown as web


@pytest.mark.parametrize(
    ("markdown", "html", "plain"),
    [
        ("hello", "hello", "hello"),
        ("**bold** and *soft* and ~~gone~~", "<b>bold</b> and <i>soft</i> and <s>gone</s>", "bold and soft and gone"),
        ("a < b & c > d", "a &lt; b &amp; c &gt; d", "a < b & c > d"),
        ("<b>no tag</b>", "&lt;b&gt;no tag&lt;/b&gt;", "<b>no tag</b>"),
        ("use `a<b`", "use <code>a&lt;b</code>", "use a<b"),
        ("# Title\n\nText", "<b>Title</b>\n\nText", "Title\n\nText"),
        ("one\ntwo", "one\ntwo", "one\ntwo"),
        ("[here](https://example.org/?a=1&b=2)", '<a href="https://example.org/?a=1&amp;b=2">here</a>',
         "here (https://example.org/?a=1&b=2)"),
        ("<https://example.org>", '<a href="https://example.org">https://example.org</a>', "https://example.org"),
        ("[x](javascript:alert)", "[x](javascript:alert)", "[x](javascript:alert)"),
        ("[x](file.txt)", "x (file.txt)", "x (file.txt)"),
        ("![a cat](https://example.org/cat.png)", '<a href="https://example.org/cat.png">a cat</a>',
         "a cat (https://example.org/cat.png)"),
        ("- one\n- two\n  - three", "• one\n• two\n  • three", "• one\n• two\n  • three"),
        ("3. one\n4. two", "3. one\n4. two", "3. one\n4. two"),
        ("0. none\n1. one", "0. none\n1. one", "0. none\n1. one"),
        ("- one\n\n- two", "• one\n\n• two", "• one\n\n• two"),
        ("> said\n> again", "<blockquote>said\nagain</blockquote>", "> said\n> again"),
        ("> a\n>> b", "<blockquote>a\n\n&gt; b</blockquote>", "> a\n>\n> > b"),
        ("---", "———", "———"),
        ("[1]: https://example.org/note", "[1]: https://example.org/note", "[1]: https://example.org/note"),
        ("", "", ""),
    ],
)  # fmt: skip
def test_it_reads_the_same_everywhere(markdown: str, html: str, plain: str) -> None:
    assert to_html(markdown) == html
    assert to_plain(markdown) == plain


def test_code_is_kept_as_it_is_also_in_a_list() -> None:
    text = "- first\n\n  ```python\n  if a < b:\n      go()\n  ```\n\n- second"
    assert to_html(text) == (
        '• first\n\n<pre><code class="language-python">if a &lt; b:\n    go()</code></pre>\n\n• second'
    )


def test_an_odd_language_is_left_out() -> None:
    assert to_html('```a"><script>\nx\n```') == "<pre>x</pre>"


def test_a_table_becomes_columns() -> None:
    text = "| name | **count** |\n|:-----|------:|\n| äpfel | 3 |\n| 梨 | 12 |"
    shown = "name   count\n─────  ─────\näpfel      3\n梨        12"
    assert to_plain(text) == shown
    assert to_html(text) == f"<pre>{shown}</pre>"


def test_a_row_may_be_shorter_than_its_table() -> None:
    assert columns([["a", "b"], ["c"]], ["left", "left"]) == "a  b\n─  ─\nc"


@pytest.mark.parametrize("text", ["> " * (MAX_NESTING + 5) + "deep", "- " * (MAX_NESTING + 5) + "deep"])
def test_what_nests_too_deeply_is_shown_as_it_is(text: str) -> None:
    assert render(text, Style()) == text


MANY = [
    "* a\n",
    "a\n",
    "> * > * a\n",
    "|1|2|\n|-|-|\n",
    "*a **b ",
    "_a_ ",
    "`a``b",
    "<a@b.c>",
    "# a\n",
    "[a](b)",
    "![",
    "&amp;",
]


@pytest.mark.parametrize(
    "write",
    [to_html, to_plain, to_discord, to_mrkdwn, to_mail, web.to_html],
    ids=["Telegram", "plain", "Discord", "Slack", "mail", "page"],
)
def test_what_would_take_long_to_take_apart_is_shown_as_it_is(write: Callable[[str], str]) -> None:
    for piece in MANY:
        text = piece * (200_000 // len(piece))
        began = time.process_time()
        written = write(text)
        assert time.process_time() - began < 1.0, piece
        assert written.count("a") >= text.count("a"), piece


def test_a_long_answer_is_no_reason_to_leave_it_as_it_is() -> None:
    answer = "## A part\n\nSome **words** and `code`, in a\nparagraph of lines.\n\n- and\n- a list\n\n" * 400
    assert marks_in(answer) < MOST_MARKS
    assert to_plain(answer).count("• a list") == 400


def test_text_is_counted_as_telegram_counts() -> None:
    assert utf16_units("a\U0001f422é") == 4
    assert utf16_slice("a\U0001f422é", 1, 2) == "\U0001f422"
    assert utf16_slice("abc", 2, 100) == "c"
    assert utf16_slice("abc", -5, 2) == ""
