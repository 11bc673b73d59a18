"""Text in Slack's own notation (mrkdwn), both ways. Pure.

Source: docs.slack.dev/messaging/formatting-message-text. Only `&`, `<` and `>` can be escaped there. An agent can
mention a person (`<@U0123ABC>`), and never a whole channel: `<!channel>` is shown as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from host.channels.markdown import Style, render

_MENTION = re.compile(r"<@([UW][A-Z0-9]{1,30})>")
_ESCAPED_MENTION = re.compile(r"&lt;@([UW][A-Z0-9]{1,30})&gt;")
_REFERENCE = re.compile(r"<([^<>|\n]{1,3000})(?:\|([^<>\n]{0,3000}))?>")


class Mrkdwn(Style):
    """Markdown as Slack shows it."""

    strong = ("*", "*")
    emphasis = ("_", "_")
    strikethrough = ("~", "~")

    def text(self, text: str) -> str:
        return _ESCAPED_MENTION.sub(r"<@\1>", _escaped(text))

    def code(self, text: str) -> str:
        return self.text(text) if "`" in text else f"`{_escaped(text)}`"

    def code_block(self, text: str, language: str) -> str:
        # A fence inside would end the block: an invisible space keeps its backticks apart.
        return "```\n" + _escaped(text).replace("```", "``\u200b`") + "\n```"

    def link(self, inner: str, url: str) -> str:
        if not url.startswith(("http://", "https://", "mailto:", "tel:")):  # `<!channel|x>` would ring for everybody
            return super().link(inner, url)
        label = " ".join(inner.split())
        address = _escaped(url).replace("|", "%7C")
        return f"<{address}>" if not label or label == address else f"<{address}|{label}>"

    def heading(self, inner: str, level: int) -> str:
        return f"*{inner.replace('*', '')}*"

    def quote(self, lines: Sequence[str], depth: int) -> list[str]:
        # Slack has one level of quotes; a second mark would be shown as a character.
        return list(lines) if depth else [f"> {line}".rstrip() for line in lines]


def to_mrkdwn(markdown: str) -> str:
    """What an agent writes, as Slack shows it."""
    return render(markdown, Mrkdwn())


def from_mrkdwn(text: str, own_id: str) -> str:
    """What a person wrote, as an agent reads it, without a mention of ourselves (`own_id`) at its beginning.

    Mentions of people stay as they are, for the agent to use them again.
    """
    said = text.lstrip()
    if said.startswith(f"<@{own_id}>"):
        text = said.removeprefix(f"<@{own_id}>").lstrip(" \t,:")
    return _unescaped(_REFERENCE.sub(_read, text))


def mentions(text: str, user_id: str) -> bool:
    """Whether a message mentions that user."""
    return f"<@{user_id}>" in text or f"<@{user_id}|" in text


def _read(match: re.Match[str]) -> str:
    target, label = match[1], match[2]
    match target[0]:
        case "@":
            return f"<{target}>"
        case "#":
            return f"#{label or target[1:]}"
        case "!":
            return label or "@" + target[1:].partition("^")[0]
    address = target.removeprefix("mailto:").removeprefix("tel:")
    if not label or label in (address, target) or address.endswith(f"://{label}"):
        return address
    return f"{label} ({address})"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
