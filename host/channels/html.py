"""What an agent writes, in the plain HTML that mail programs and Matrix show. Pure."""

from __future__ import annotations

import html
from collections.abc import Sequence

from host.channels.markdown import Alignment, Style, render

_LINKS = ("http://", "https://", "mailto:")


class Html(Style):
    """Markdown as HTML. Line ends of code are written as references, so that all others can become `<br>`."""

    strong = ("<strong>", "</strong>")
    emphasis = ("<em>", "</em>")
    strikethrough = ("<del>", "</del>")
    rule = "<hr>"

    def text(self, text: str) -> str:
        return html.escape(text, quote=False)

    def code(self, text: str) -> str:
        return f"<code>{_code(text)}</code>"

    def code_block(self, text: str, language: str) -> str:
        return f"<pre><code>{_code(text)}</code></pre>"

    def link(self, inner: str, url: str) -> str:
        if not url.startswith(_LINKS):
            return super().link(inner, url)
        return f'<a href="{html.escape(url)}">{inner or self.text(url)}</a>'

    def heading(self, inner: str, level: int) -> str:
        return f"<h{level}>{inner}</h{level}>"

    def quote(self, lines: Sequence[str], depth: int) -> list[str]:
        return "\n".join(["<blockquote>", *lines, "</blockquote>"]).split("\n")

    def table(self, rows: Sequence[Sequence[str]], alignments: Sequence[Alignment]) -> str:
        head, *body = [
            "".join(f"<{cell}>{html.escape(text, quote=False)}</{cell}>" for text in row)
            for cell, row in (("th" if number == 0 else "td", row) for number, row in enumerate(rows))
        ] or [""]
        shown = "".join(f"<tr>{row}</tr>" for row in body)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{shown}</tbody></table>"


def to_html(markdown: str) -> str:
    """The text as HTML."""
    return render(markdown, Html()).replace("\n", "<br>\n")


def _code(text: str) -> str:
    return html.escape(text, quote=False).replace("\n", "&#10;")
