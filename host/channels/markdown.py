"""The Markdown that agents write (CommonMark with tables and strikethrough), as a platform shows it.

    render(text, Style())         plain text: the fallback where a platform refuses its formatting
    render(text, TelegramHtml())  each platform has a subclass of `Style` beside its channel

Nothing that was written is lost: HTML is text, and so is what nests too deeply or would take too long, since the host's
loop waits meanwhile. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from functools import cache
from itertools import zip_longest
from typing import Literal

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.cells import cell_len

from shared_schema.dataclass import dataclass

MAX_NESTING = 30
"""Quotes and lists inside each other; markdown-it drops what is deeper, so that such a text is shown as it is."""

MOST_MARKS = 10_000
"""Lines and characters with a meaning up to which a text is taken apart: these take 0.2 s of a slow processor."""
_MARKS = "\n\r*_~`[]<|&!\\"

_MOST_LINK_STEPS = 2_000_000
"""Opening brackets times characters up to which links are looked for: markdown-it seeks the end of each bracket."""

_WIDEST_CELL = 60
"""Columns up to which a cell is filled up with spaces: one long cell does not blow up the others of its column."""

Alignment = Literal["left", "right", "center"]
Pair = tuple[str, str]


class Style:
    """How one platform writes what Markdown can say. As it stands: plain text. Subclasses override what they have.

    `strong`, `emphasis`, `strikethrough` are what is put before and behind. Everything that a method gets as `inner`
    is written in this style already; what it gets as `text` is not.
    """

    strong: Pair = ("", "")
    emphasis: Pair = ("", "")
    strikethrough: Pair = ("", "")
    bullet = "• "
    rule = "———"

    def text(self, text: str) -> str:
        """Text as it is, with what would mean something escaped."""
        return text

    def code(self, text: str) -> str:
        """Code in a line."""
        return text

    def code_block(self, text: str, language: str) -> str:
        """A block of code; `language` is one word, or empty."""
        return text

    def link(self, inner: str, url: str) -> str:
        """A link. The URL is percent-encoded, and none that runs a script."""
        address = self.text(url)
        return inner if inner == address else f"{inner} ({address})" if inner else address

    def image(self, alternative: str, url: str) -> str:
        """A picture that lies elsewhere: most platforms can only link to it."""
        return self.link(self.text(alternative), url)

    def heading(self, inner: str, level: int) -> str:
        """A heading of level 1 to 6."""
        opening, closing = self.strong
        return f"{opening}{inner}{closing}"

    def quote(self, lines: Sequence[str], depth: int) -> list[str]:
        """A quote; `depth` is 0 for one that stands in no other."""
        return [f"{self.text('>')} {line}".rstrip() for line in lines]

    def table(self, rows: Sequence[Sequence[str]], alignments: Sequence[Alignment]) -> str:
        """A table; the first row is its head. The cells are plain text: few platforms have tables or format code."""
        return self.code_block(columns(rows, alignments), "")


def render(markdown: str, style: Style) -> str:
    """The text in that style. Empty where there is nothing but white space."""
    tokens = parse(markdown)
    if tokens is None:
        return style.text(markdown)
    return "\n".join(text for text, _ in _Blocks(style).of(tokens))


def parse(markdown: str) -> list[Token] | None:
    """The tokens of a text, for what shows more than a `Style` can say.

    None: it nests too deeply, or there is too much in it, and it is to be shown as it stands.
    """
    if marks_in(markdown) > MOST_MARKS:
        return None
    has_links = markdown.count("[") * len(markdown) <= _MOST_LINK_STEPS
    tokens = _parser(has_links).parse(markdown)
    return None if any(token.level >= MAX_NESTING - 1 for token in tokens) else tokens


def marks_in(markdown: str) -> int:
    """How many lines and characters a text has that may mean something: taking it apart takes time for each."""
    return sum(map(markdown.count, _MARKS))


def columns(rows: Sequence[Sequence[str]], alignments: Sequence[Alignment]) -> str:
    """The rows of a table below each other, for a font in which all letters are equally wide."""
    widths = [
        min(_WIDEST_CELL, max((cell_len(cell) for cell in column), default=0))
        for column in zip_longest(*rows, fillvalue="")
    ]
    lines = []
    for row in rows:
        cells = [_filled(*each) for each in zip(row, widths, alignments, strict=False)]
        lines.append("  ".join(cells).rstrip())
    if lines:
        lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(lines)


@cache
def _parser(has_links: bool) -> MarkdownIt:
    # `html` is off: what looks like a tag is text. Without `reference`, a line such as "[1]: the first" stays in the
    # text and is not taken for the definition of a link.
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_NESTING})
    parser.enable(["table", "strikethrough"]).disable("reference")
    return parser if has_links else parser.disable(["link", "image"])


_Line = tuple[str, bool]
"""A line of the result, and whether it is code: that is never indented, so that it can be copied."""


@dataclass(slots=True)
class _Open:
    """A block that has been opened: its finished blocks, and for lists whether it is tight and its next number."""

    type: str
    blocks: list[list[_Line]] = field(default_factory=list)
    is_tight: bool = False
    number: int = 0

    def lines(self) -> list[_Line]:
        """Its blocks below each other, with an empty line between them unless it is tight."""
        joined: list[_Line] = []
        for block in self.blocks:
            if joined and not self.is_tight:
                joined.append(("", False))
            joined += block
        return joined


class _Blocks:
    """One walk over the blocks of a text."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._stack = [_Open("document")]
        self._heading = 0
        self._is_in_cell = False
        self._row: list[str] = []
        self._rows: list[list[str]] = []
        self._alignments: list[Alignment] = []

    def of(self, tokens: Sequence[Token]) -> list[_Line]:
        for token in tokens:
            if token.nesting > 0:
                self._opened(token)
            elif token.nesting < 0:
                self._closed(token)
            else:
                self._leaf(token)
        return self._stack[0].lines()

    def _opened(self, token: Token) -> None:
        match token.type:
            case "blockquote_open" | "list_item_open":
                self._stack.append(_Open(token.type))
            case "bullet_list_open":
                self._stack.append(_Open(token.type, is_tight=True))
            case "ordered_list_open":
                start = token.attrGet("start")
                self._stack.append(_Open(token.type, is_tight=True, number=1 if start is None else int(start)))
            case "heading_open":
                self._heading = int(token.tag[1:])
            case "paragraph_open" if token.hidden:
                self._stack[-1].is_tight = True
            case "paragraph_open" if self._stack[-1].type == "list_item_open":
                self._stack[-2].is_tight = False
            case "table_open":
                self._rows, self._alignments = [], []
            case "tr_open":
                self._row = []
            case "th_open" | "td_open":
                self._is_in_cell = True
                if token.type == "th_open":
                    said = str(token.attrGet("style") or "").removeprefix("text-align:")
                    self._alignments.append("right" if said == "right" else "center" if said == "center" else "left")

    def _closed(self, token: Token) -> None:
        match token.type:
            case "blockquote_close":
                lines = [text for text, _ in self._stack.pop().lines()]
                depth = sum(each.type == "blockquote_open" for each in self._stack)
                self._add([(line, False) for line in self._style.quote(lines, depth)])
            case "list_item_close":
                item = self._stack.pop()
                self._add(self._item(item.lines()))
            case "bullet_list_close" | "ordered_list_close":
                self._add(self._stack.pop().lines())
            case "heading_close":
                self._heading = 0
            case "th_close" | "td_close":
                self._is_in_cell = False
            case "tr_close":
                self._rows.append(self._row)
            case "table_close":
                self._add(_code_lines(self._style.table(self._rows, self._alignments)))

    def _leaf(self, token: Token) -> None:
        match token.type:
            case "inline":
                self._inline(token.children or [])
            case "fence" | "code_block":
                language = (token.info.split() or [""])[0]
                self._add(_code_lines(self._style.code_block(token.content.removesuffix("\n"), language)))
            case "hr":
                self._add([(self._style.rule, False)])
            case _:
                self._add([(self._style.text(line), False) for line in token.content.splitlines()])

    def _inline(self, tokens: Sequence[Token]) -> None:
        if self._is_in_cell:
            self._row.append(" ".join(_inline(tokens, Style()).split()))
            return
        written = _inline(tokens, self._style)
        if self._heading:
            written = self._style.heading(written, self._heading)
        self._add([(line, False) for line in written.split("\n")])

    def _item(self, lines: list[_Line]) -> list[_Line]:
        """An item of the innermost list: its mark, and everything below the first line indented."""
        around = self._stack[-1]
        mark = self._style.bullet
        if around.type == "ordered_list_open":
            mark, around.number = self._style.text(f"{around.number}.") + " ", around.number + 1
        first, *others = lines or [("", False)]
        if first[1]:  # the code comes below the mark
            first, others = ("", False), [first, *others]
        return [
            ((mark + first[0]).rstrip(), False),
            *((text, True) if is_code else (f"  {text}".rstrip(), False) for text, is_code in others),
        ]

    def _add(self, lines: list[_Line]) -> None:
        self._stack[-1].blocks.append(lines)


def _code_lines(text: str) -> list[_Line]:
    return [(line, True) for line in text.split("\n")]


def _inline(tokens: Sequence[Token], style: Style) -> str:
    """The text of one paragraph. Marks are written where they open and close, so that deep nesting costs nothing."""
    written: list[str] = []
    link_at, url = 0, ""
    for token in tokens:
        match token.type:
            case "text" | "text_special":
                written.append(style.text(token.content))
            case "softbreak" | "hardbreak":
                written.append("\n")
            case "code_inline":
                written.append(style.code(token.content))
            case "strong_open" | "strong_close":
                written.append(style.strong[token.nesting < 0])
            case "em_open" | "em_close":
                written.append(style.emphasis[token.nesting < 0])
            case "s_open" | "s_close":
                written.append(style.strikethrough[token.nesting < 0])
            case "link_open":
                link_at, url = len(written), str(token.attrGet("href") or "")
            case "link_close":
                written[link_at:] = [style.link("".join(written[link_at:]), url)]
            case "image":
                written.append(style.image(token.content, str(token.attrGet("src") or "")))
            case _:
                written.append(style.text(token.content))
    return "".join(written)


def _filled(cell: str, width: int, alignment: Alignment) -> str:
    room = max(0, width - cell_len(cell))
    left = {"left": 0, "right": room, "center": room // 2}[alignment]
    return " " * left + cell + " " * (room - left)
