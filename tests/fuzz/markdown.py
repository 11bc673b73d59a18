"""What agents write in Markdown, on its way to a platform."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from host.channels.telegram.text import to_html, to_plain
from tests.fuzz.target import Drive, Target
from tests.fuzz.values import ANY_TEXT

_PIECES = st.sampled_from(
    ("*", "**", "_", "`", "```\n", "~~", "[", "](", ")", "![", "<", ">", "> ", "- ", "1. ", "\n", "\n\n", "|", "|-",
     "    ", "\\", "&amp;", "<b>", "\0", "\ud800", "\u202e", "é\u0301", "https://x.y", "a", "word ")
)  # fmt: skip
_TEXTS = st.one_of(
    ANY_TEXT,
    st.lists(_PIECES, max_size=60).map("".join),
    st.builds(str.__mul__, st.lists(_PIECES, min_size=1, max_size=3).map("".join), st.sampled_from((10, 500, 4000))),
)


@contextmanager
def _render(folder: Path) -> Iterator[Drive]:
    def drive(text: str) -> None:
        html, plain = to_html(text), to_plain(text)
        assert html.count("<pre>") == html.count("</pre>")
        assert html.count("<a href=") == html.count("</a>")
        assert bool(plain.strip()) or not any(character.isalnum() for character in text.replace("&", ""))

    yield drive


MARKDOWN = (Target("markdown", _render, _TEXTS, ()),)
