"""Text as Discord shows it, and as people write it there. Pure.

Discord reads Markdown itself; what it has not are tables, and headings below the third level.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from host.channels.markdown import Style, render

MAX_TEXT = 2_000
_EMOJI = re.compile(r"<a?:(\w{1,64}):\d{1,25}>")
_SPECIAL = re.compile(r"([\\*_~`|])")


class DiscordMarkdown(Style):
    """Markdown as Discord reads it, with tables as code."""

    strong = ("**", "**")
    emphasis = ("*", "*")
    strikethrough = ("~~", "~~")
    bullet = "- "

    def text(self, text: str) -> str:
        return _SPECIAL.sub(r"\\\1", text)

    def code(self, text: str) -> str:
        return f"`` {text} ``" if "`" in text else f"`{text}`"

    def code_block(self, text: str, language: str) -> str:
        # A fence inside would end the block: an invisible space keeps its backticks apart.
        return f"```{language}\n" + text.replace("```", "``\u200b`") + "\n```"

    def link(self, inner: str, url: str) -> str:
        return url if not inner or self.text(url) == inner else f"[{inner}]({url})"

    def heading(self, inner: str, level: int) -> str:
        return f"{'#' * level} {inner}" if level <= 3 else f"**{inner}**"

    def quote(self, lines: Sequence[str], depth: int) -> list[str]:
        return list(lines) if depth else [f"> {line}".rstrip() for line in lines]


def to_discord(markdown: str) -> str:
    """What an agent writes, as it is sent. Never longer than Discord takes where `markdown` is not."""
    if not any(map(_is_rule_of_table, markdown.splitlines())):
        return markdown
    written = render(markdown, DiscordMarkdown())
    return written if len(written) <= MAX_TEXT else markdown


def _is_rule_of_table(line: str) -> bool:
    """Whether a line may be the one below the head of a table."""
    rule = line.strip(" >")
    return "|" in rule and "-" in rule and set(rule) <= set("|:- ")


def from_discord(text: str, own_id: str) -> str:
    """What a person wrote, without a mention of ourselves at its beginning. Mentions of people stay as they are."""
    said = text.lstrip()
    for mention in (f"<@{own_id}>", f"<@!{own_id}>"):
        if said.startswith(mention):
            text = said.removeprefix(mention).lstrip(" \t,:")
            break
    return _EMOJI.sub(r":\1:", text)
