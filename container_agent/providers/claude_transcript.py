"""What the SDK's messages come to: steps of the transcript, the reply, what was used."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from container_agent.providers.protocol import Step, Usage

_OF_THE_SDK = "<synthetic>"  # the model of an answer that no model gave: an error
_CACHE_AND_INPUT = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class Transcript:
    """Listens to one turn. `keep` gets the steps so far whenever tools were called; `take` gives the rest.

    `show` is called with every piece of an answer that is being written; what it is given says how far that has come.
    """

    def __init__(
        self, keep: Callable[[Sequence[Step]], None], show: Callable[[Callable[[], str]], None] | None = None
    ) -> None:
        self._keep = keep
        self._show = show
        self.session_id = ""
        self.error: str | None = None
        """What kind of error the last answer was, in the SDK's words."""
        self.resets_at: int | None = None
        self.context_tokens: int | None = None
        self.result: Any = None
        self.has_worked = False
        """Whether a tool was called."""
        self._steps: list[Step] = []
        self._later: list[Step] = []
        self._blocks: list[Any] = []  # of the answer that is coming in
        self._answer_id: str | None = None
        self._names: dict[str, str] = {}  # of the tools that were called, by id of the call
        self._said: list[str] = []  # since the last result of a tool
        self._said_before = ""
        self._written: list[str] = []  # pieces of the answer that is being written: only for showing

    @property
    def reply(self) -> str:
        """The last words: what was said since the last tool, or else before it."""
        self._end_answer()
        return "\n".join(self._said) or self._said_before

    def add(self, step: Step) -> None:
        """Add a step that the SDK does not report: what a person said."""
        self._end_answer()
        self._steps.append(step)

    def add_later(self, step: Step) -> None:
        """The same, for what is told together with the result of a tool, which is still to come."""
        self._later.append(step)

    def take(self) -> list[Step]:
        """The steps that were not given to `keep`."""
        self._end_answer()
        taken, self._steps, self._later = [*self._steps, *self._later], [], []
        return taken

    def hear(self, message: Any) -> None:
        """One message of the SDK's."""
        if getattr(message, "parent_tool_use_id", None) is not None:
            return  # of a subagent: its result is that of the tool
        match type(message).__name__:
            case "SystemMessage" if message.subtype == "init":
                self.session_id = str(message.data.get("session_id") or "")
            case "AssistantMessage":
                self._hear_answer(message)
            case "StreamEvent":
                self._hear_piece(message.event)
            case "UserMessage" if isinstance(message.content, list):
                self._hear_results(message.content)
            case "RateLimitEvent" if message.rate_limit_info.status == "rejected":
                self.resets_at = message.rate_limit_info.resets_at
            case "ResultMessage":
                self.result = message
                self.session_id = message.session_id or self.session_id

    def _hear_answer(self, message: Any) -> None:
        """One block of an answer; those with the same id belong together."""
        if message.model == _OF_THE_SDK:
            self.error = message.error
            return
        if message.message_id != self._answer_id:
            self._end_answer()
            self._answer_id = message.message_id
        self._blocks += message.content
        used = message.usage or {}
        if taken := sum(_number(used.get(name)) for name in _CACHE_AND_INPUT):
            self.context_tokens = taken

    def _hear_piece(self, event: Any) -> None:
        """A piece of an answer, as the service sends it. The whole block comes as an `AssistantMessage` later."""
        match event:
            case {"type": "message_start"}:
                self._written = []  # the answer before is among what was said; or it broke off, and is asked for again
            case {"type": "content_block_delta", "delta": {"type": "text_delta", "text": str(text)}}:
                self._written.append(text)
                if self._show is not None:
                    self._show(self._so_far)

    def _so_far(self) -> str:
        """What a person would read if the answer ended here."""
        return "\n".join(part for part in (*self._said, "".join(self._written).strip()) if part)

    def _hear_results(self, blocks: list[Any]) -> None:
        self._end_answer()
        results = [block for block in blocks if type(block).__name__ == "ToolResultBlock"]
        for block in results:
            self.has_worked = True
            name = self._names.get(block.tool_use_id)
            self._steps.append(Step("tool", _text(block.content), tool_name=name, tool_call_id=block.tool_use_id))
            self._said_before = "\n".join(self._said) or self._said_before
            self._said = []
        if results:
            self._keep(self.take())

    def _end_answer(self) -> None:
        blocks, self._blocks, self._answer_id = self._blocks, [], None
        text = "".join(block.text for block in blocks if type(block).__name__ == "TextBlock")
        reasoning = "".join(block.thinking for block in blocks if type(block).__name__ == "ThinkingBlock")
        calls = [block for block in blocks if type(block).__name__ in ("ToolUseBlock", "ServerToolUseBlock")]
        self._names |= {call.id: call.name for call in calls}
        called = [{"id": call.id, "name": call.name, "arguments": json.dumps(call.input)} for call in calls]
        if text.strip():
            self._said.append(text.strip())
        if text or reasoning or called:
            self._steps.append(
                Step(
                    "assistant",
                    text or None,
                    tool_calls=json.dumps(called, ensure_ascii=False) if called else None,
                    reasoning=reasoning or None,
                )
            )


def totals(result: Any) -> Usage:
    """What all models together have used in the SDK's session so far, the turn of `result` included."""
    models = [model for model in (result.model_usage or {}).values() if isinstance(model, Mapping)]

    def of(name: str) -> int:
        return sum(_number(model.get(name)) for model in models)

    return Usage(
        input_tokens=of("inputTokens"),
        output_tokens=of("outputTokens"),
        cache_read_tokens=of("cacheReadInputTokens"),
        cache_write_tokens=of("cacheCreationInputTokens"),
        cost_usd=result.total_cost_usd,
        reasoning_tokens=of("thinkingTokens"),
    )


def window(result: Any) -> int | None:
    """How many tokens the model takes that used most; None when the SDK does not say."""
    models = [model for model in (result.model_usage or {}).values() if isinstance(model, Mapping)]
    largest = max(models, key=lambda model: _number(model.get("outputTokens")), default={})
    return _number(largest.get("contextWindow")) or None


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _text(content: str | list[dict[str, Any]] | None) -> str:
    """The result of a tool as text; what is none, like an image, is named."""
    if not isinstance(content, list):
        return content or ""
    return "\n".join(str(block.get("text") or f"[{block.get('type', 'something')}]") for block in content)
