"""HTML as plain text: what a person would read of it. Pure, and never raises: any text is some HTML.

The pages are foreign, so each is read once, from left to right, in time that grows with its length alone.
Python's own parser takes minutes for a page of nothing but `<a <a <a`, and gives up over `<![x[`.
"""

from __future__ import annotations

import re
from html import unescape

_SKIPPED = frozenset({"script", "style", "noscript", "template", "svg"})
_BLOCKS = frozenset(
    re.findall(
        r"\w+",
        "address article aside blockquote br dd div dl dt fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr li "
        "main nav ol p pre section table tbody td th thead title tr ul",
    )
)
_RAW = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style")}
_LONGEST_TAG = 4_000
"""Characters; what is longer is taken for text."""
_MOST_IN_QUOTES = 8
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]{0,30})")
_LINK = re.compile(r"""\shref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE)
_SPACES = re.compile(r"[ \t\r\f\v\u00a0]+")
_LINES = re.compile(r"\n\s*\n+")


def text_of(html: str) -> str:
    """The text, one line to a block; links keep their addresses in brackets, headings their rank."""
    reader = _PageReader()
    place = 0
    while (at := reader.find(html, place)) >= 0:
        reader.text(html[place:at])
        place = _behind(html, at, reader)
    reader.text(html[place:])
    lines = (_SPACES.sub(" ", line).strip() for line in "".join(reader.parts).split("\n"))
    return _LINES.sub("\n\n", "\n".join(lines)).strip()


def _behind(html: str, at: int, reader: _PageReader) -> int:
    """Where it goes on behind what a `<` begins: a comment, a declaration, a tag; or text, if it is none of them."""
    if html.startswith("<!--", at):
        end = html.find("-->", at + 4)
        return len(html) if end < 0 else end + 3
    tag = _TAG.match(html, at)
    end = _end_of(html, at) if tag is not None or html.startswith(("<!", "<?"), at) else -1
    if end < 0:
        reader.text("<")
        return at + 1
    if tag is not None:
        reader.tag(tag[2].lower(), html[tag.end() : end], is_end=bool(tag[1]))
    return end + 1


def _end_of(html: str, at: int) -> int:
    """Where the `>` of a tag is, if it has one: the first that stands in no quotes, or else the first."""
    limit = at + _LONGEST_TAG
    end = first = html.find(">", at, limit)
    for _ in range(_MOST_IN_QUOTES):
        if end < 0 or html.count('"', at, end) % 2 == 0:
            break
        end = html.find(">", end + 1, limit)
    return first if end < 0 else end


class _PageReader:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self._skipping: str | None = None
        self._depth = 0  # of that element within itself
        self._link: str | None = None

    def find(self, html: str, place: int) -> int:
        """The next `<` that counts; in a script or style that is the one of its end. -1: there is none."""
        if self._skipping not in _RAW:
            return html.find("<", place)
        found = _RAW[self._skipping].search(html, place)
        return -1 if found is None else found.start()

    def text(self, said: str) -> None:
        if self._skipping is None and said:
            self.parts.append(unescape(said))

    def tag(self, name: str, attributes: str, *, is_end: bool) -> None:
        if self._skipping is not None:
            if name == self._skipping:
                self._depth += -1 if is_end else 1
            if self._depth == 0:
                self._skipping = None
        elif is_end:
            self._end(name)
        else:
            self._begin(name, attributes)

    def _begin(self, name: str, attributes: str) -> None:
        if name in _SKIPPED and not attributes.endswith("/"):
            self._skipping, self._depth = name, 1
            return
        if name in _BLOCKS:
            self.parts.append("\n")
        if name in ("h1", "h2", "h3", "h4", "h5", "h6"):
            self.parts.append("#" * int(name[1]) + " ")
        elif name == "li":
            self.parts.append("- ")
        elif name == "a":
            found = _LINK.search(attributes)
            address = unescape(found[1] or found[2] or found[3] or "") if found is not None else ""
            self._link = address if address.startswith(("http://", "https://")) else None

    def _end(self, name: str) -> None:
        if name == "a" and self._link is not None:
            self.parts.append(f" ({self._link})")
            self._link = None
        if name in _BLOCKS:
            self.parts.append("\n")
