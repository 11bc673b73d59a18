"""The default provider, which needs no key: it says back what was said, once per triggering message, in order."""

from __future__ import annotations

from typing import Any

from container_agent.providers.protocol import Reply, Step, TurnOutput, TurnRequest, TurnResult
from shared_schema.rows import MessageIn, decode

HINT = "(echo: no model is set, so your words come back as they are; `dumbwaiter init` asks which one shall answer)"
_QUESTIONS = frozenset({"help", "/help", "?", "who are you?", "what are you?"})


class EchoProvider:
    """Says what it is on the first turn of a session and when asked for help; otherwise only echoes."""

    name = "echo"

    async def run(self, request: TurnRequest, out: TurnOutput) -> TurnResult:
        """One reply to each triggering message."""
        replies: list[Reply] = []
        for message in request.triggering:
            said = _said(message)
            if (request.is_first and not replies) or said.strip().lower() in _QUESTIONS:
                said = f"{said}\n\n{HINT}"  # a paragraph of its own, where Markdown is shown
            replies.append(Reply(said, in_reply_to=message.id))
        steps = [Step("user", _said(message)) for message in request.messages]
        steps += [Step("assistant", reply.text) for reply in replies]
        return TurnResult(replies=replies, steps=steps)


def _said(message: MessageIn) -> str:
    """The text of a message, and one line naming its files, if it has any."""
    files: list[dict[str, Any]] = decode(message.content).get("files") or []
    names = f"[files: {', '.join(str(file.get('name')) for file in files)}]" if files else ""
    return "\n".join(part for part in (message.text, names) if part)
