"""What an agent writes, in the HTML that Telegram takes; and Telegram's way of counting. Pure.

https://core.telegram.org/bots/api#html-style: `b i s code pre a blockquote`, quotes in no other quote.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from host.channels.markdown import Style, render

_LANGUAGE = re.compile(r"[A-Za-z0-9+#._-]{1,40}")
_LINKS = ("http://", "https://", "tg://", "mailto:")


class TelegramHtml(Style):
    """Markdown as Telegram's HTML."""

    strong = ("<b>", "</b>")
    emphasis = ("<i>", "</i>")
    strikethrough = ("<s>", "</s>")

    def text(self, text: str) -> str:
        return html.escape(text, quote=False)

    def code(self, text: str) -> str:
        return f"<code>{html.escape(text, quote=False)}</code>"

    def code_block(self, text: str, language: str) -> str:
        escaped = html.escape(text, quote=False)
        if not _LANGUAGE.fullmatch(language):
            return f"<pre>{escaped}</pre>"
        return f'<pre><code class="language-{language}">{escaped}</code></pre>'

    def link(self, inner: str, url: str) -> str:
        if not url.startswith(_LINKS):  # Telegram drops other links without a word
            return super().link(inner, url)
        return f'<a href="{html.escape(url)}">{inner or self.text(url)}</a>'

    def quote(self, lines: Sequence[str], depth: int) -> list[str]:
        if depth:
            return super().quote(lines, depth)
        return f"<blockquote>{chr(10).join(lines)}</blockquote>".split("\n")


def to_html(markdown: str) -> str:
    """The text as Telegram's HTML."""
    return render(markdown, TelegramHtml())


def to_plain(markdown: str) -> str:
    """The text without any formatting: what is sent where Telegram refuses the HTML."""
    return render(markdown, Style())


def utf16_units(text: str) -> int:
    """The length of a text as Telegram counts it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def utf16_slice(text: str, offset: int, length: int) -> str:
    """A part of a text by UTF-16 units, as entities give it; what lies outside is left out."""
    data = text.encode("utf-16-le", "surrogatepass")
    return data[max(0, 2 * offset) : max(0, 2 * (offset + length))].decode("utf-16-le", "replace")
