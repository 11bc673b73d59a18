"""What agents write, as HTML of the page. Every text is escaped, and no address but of the web and of mail is a link.

Pictures that lie elsewhere are links: a page that loads them would tell their servers who reads it, and when.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

from host.channels.markdown import MOST_MARKS, marks_in, parse

_LINKS = ("http://", "https://", "mailto:")
_MOST_OF_PAGE = 6 * MOST_MARKS
_MOST_WHILE_IT_GROWS = MOST_MARKS // 10
"""Of a text that is written at this moment, and shown again with each of its pieces."""
_PLAIN = {
    "paragraph": "p", "blockquote": "blockquote", "bullet_list": "ul", "list_item": "li", "table": "table",
    "thead": "thead", "tbody": "tbody", "tr": "tr", "strong": "strong", "em": "em", "s": "del",
}  # fmt: skip


def to_html(markdown: str) -> Markup:
    """The text as HTML, in blocks; one that would take too long, as it stands."""
    tokens = parse(markdown)
    if tokens is None:
        return as_it_stands(markdown)
    written: list[str] = []
    _write(tokens, written)
    return Markup("".join(written))  # of escaped text and of tags that stand here


def as_it_stands(text: str) -> Markup:
    """A text as it was written."""
    return Markup('<p class="plain">{}</p>').format(text)


def growing(text: str) -> Markup:
    """A text that is not complete yet, as `to_html`."""
    return to_html(text) if marks_in(text) <= _MOST_WHILE_IT_GROWS else as_it_stands(text)


def with_html(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries of a conversation with `html`, what agents said as `to_html`.

    Where they are too much for one page together, the first ones stand as they are. What people wrote is no Markdown.
    """
    left, shown = _MOST_OF_PAGE, []
    for entry in reversed(entries):
        is_of_person = entry["direction"] == "in"
        left -= 0 if is_of_person else marks_in(entry["text"])
        html = to_html(entry["text"]) if left >= 0 and not is_of_person else as_it_stands(entry["text"])
        shown.append(entry | {"html": html})
    return shown[::-1]


def _write(tokens: Sequence[Any], written: list[str]) -> None:
    hrefs: list[bool] = []  # of the links that are open: whether each is one
    for token in tokens:
        _one(token, written, hrefs)


def _one(token: Any, written: list[str], hrefs: list[bool]) -> None:
    kind, _, end = str(token.type).rpartition("_")
    is_open = end == "open"
    match kind if end in ("open", "close") else token.type:
        case "paragraph" if token.hidden:
            pass
        case "link":
            _link(token, written, hrefs, is_open=is_open)
        case "heading":  # the page has its own of the first two levels
            level = min(6, int(token.tag[1:]) + 2)
            written.append(f"<h{level}>" if is_open else f"</h{level}>")
        case "ordered_list":
            start = token.attrGet("start") if is_open else None
            written.append(f'<ol start="{int(start)}">' if start is not None else "<ol>" if is_open else "</ol>")
        case "th" | "td" as cell:
            said = str(token.attrGet("style") or "") if is_open else ""
            side = next((side for side in ("right", "center") if said.endswith(side)), None)
            opening = f"<{cell}>" if side is None else f'<{cell} class="{side}">'
            written.append(opening if is_open else f"</{cell}>")
        case "inline":
            _write(token.children or [], written)
        case "fence" | "code_block":
            language = escape((token.info.split() or [""])[0][:40])
            code = escape(token.content)
            written.append(f'<pre tabindex="0" data-language="{language}"><code>{code}</code></pre>')
        case "code_inline":
            written.append(f"<code>{escape(token.content)}</code>")
        case "hr":
            written.append("<hr>")
        case "softbreak" | "hardbreak":
            written.append("<br>")
        case "image":
            written.append(_image(token))
        case _ if kind in _PLAIN and end in ("open", "close"):
            written.append(f"<{_PLAIN[kind]}>" if is_open else f"</{_PLAIN[kind]}>")
        case _:
            written.append(str(escape(token.content)))


def _link(token: Any, written: list[str], hrefs: list[bool], *, is_open: bool) -> None:
    if not is_open:
        written.append("</a>" if hrefs.pop() else "</span>")
        return
    url = str(token.attrGet("href") or "")
    hrefs.append(url.startswith(_LINKS))
    written.append(_anchor(url) if hrefs[-1] else f'<span title="{escape(url)}">')


def _image(token: Any) -> str:
    url, text = str(token.attrGet("src") or ""), escape(token.content or "")
    return f"{_anchor(url)}{text or escape(url)}</a>" if url.startswith(_LINKS) else str(text or escape(url))


def _anchor(url: str) -> str:
    return f'<a href="{escape(url)}" target="_blank" rel="noopener noreferrer nofollow">'
