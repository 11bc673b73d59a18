"""The tool `ask_user_question`: a question in the chat of the turn, and waiting for its answer.

It survives restarts. The question is a row of `outbound.db`, with the `seq` behind which its answer stands; an agent
that died while it waited runs its turn again, asks the same, and finds the question that is open instead of sending
another. The answer is a row of the host's that names the question (a button), or the next message that a person writes
in that chat: the number of an option, its text, or any other text.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from container_agent.providers.protocol import Reply
from container_agent.tools.schema import form, number, text
from container_agent.tools.tool import Arguments, Tool, ToolRefused
from container_agent.tools.tool_context import ToolContext
from shared_schema.clock import Clock, to_text
from shared_schema.rows import MessageIn, MessageOutKind

_MAX_OPTIONS = 20
_DEFAULT_SECONDS, _MAX_SECONDS = 300, 3600
_MARGIN_SECONDS = 5.0


def tool(tool_context: ToolContext, clock: Clock) -> Tool:
    """The tool for one turn."""
    asking = _Asking(tool_context, clock)
    return Tool(
        "ask_user_question",
        "Ask the person in this chat and wait for the answer. Give options where there are some to choose from; any "
        "other answer is possible too.",
        form(
            {"question": text("The question.", 4_000)},
            {
                "options": {
                    "type": "array",
                    "description": "Possible answers.",
                    "maxItems": _MAX_OPTIONS,
                    "default": [],
                    "items": text("One answer.", 200),
                },
                "seconds": number("How long to wait.", 1, _MAX_SECONDS, _DEFAULT_SECONDS),
            },
        ),
        asking.ask,
        seconds_of=lambda arguments: tool_context.granted(arguments["seconds"]) + _MARGIN_SECONDS,
    )


class _Asking:
    def __init__(self, tool_context: ToolContext, clock: Clock) -> None:
        self._tool_context = tool_context
        self._clock = clock
        self._closed: set[str] = set()  # questions that this turn has done with

    async def ask(self, arguments: Arguments) -> str:
        question, labels = arguments["question"], arguments["options"]
        seconds = self._tool_context.granted(arguments["seconds"])
        options = [{"id": str(place), "label": label} for place, label in enumerate(labels, 1)]
        message_id, after = await self._asked(question, options, seconds)
        answered = self._tool_context.answered
        self._closed.add(message_id)
        found = await self._tool_context.turn_inbox.reply(message_id, answered.address, after=after, seconds=seconds)
        if found is None:
            why = "" if seconds == arguments["seconds"] else ", which is all that this turn had left"
            return (
                f"No answer came within {seconds} seconds{why}. The question stays in the chat; an answer that comes "
                "later is a new message. Go on without it, or end your turn."
            )
        if isinstance(found, MessageIn):
            return _told(self._tool_context.request.spoken(found), found.text, options)
        said = str(found.get("answer", ""))
        return _told(said, said, options)

    async def _asked(self, question: str, options: list[dict[str, str]], seconds: int) -> tuple[str, int]:
        """The id of the question that is open, and the seq behind which its answer stands."""
        answered = self._tool_context.answered
        for message_id, content in self._tool_context.turn_inbox.questions(answered.id):
            same = content.get("question") == question and content.get("options") == options
            if same and message_id not in self._closed and isinstance(content.get("after"), int):
                return message_id, content["after"]
        after = self._tool_context.turn_inbox.last()
        details: dict[str, Any] = {
            "question": question,
            "options": options,
            "after": after,
            "expires": to_text(self._clock.now() + timedelta(seconds=seconds)),
        }
        said = "\n".join([question, *(f"{option['id']}. {option['label']}" for option in options)])
        message = Reply(said, in_reply_to=answered.id, kind=MessageOutKind.QUESTION, details=details)
        return await self._tool_context.out.send(message), after


def chosen(said: str, options: list[dict[str, str]]) -> dict[str, str] | None:
    """The option that an answer means: by its number, with or without a dot or a bracket, or by its text."""
    plain = " ".join(said.split()).casefold()
    number = plain.strip("().:#")
    for option in options:
        if number == option["id"] or plain == " ".join(option["label"].split()).casefold():
            return option
    return None


def _told(shown: str, said: str, options: list[dict[str, str]]) -> str:
    if not said.strip():
        raise ToolRefused("the answer has no text")
    option = chosen(said, options)
    return f"Answer: {shown}" if option is None else f"Answer: {option['label']} (option {option['id']})"
