"""Streams of services that speak OpenAI's format and number their tool calls in ways of their own.

The format says: each call has an index of its own, and id and name come once, in its first piece. Some services give
every call the index 0, or none, or skip numbers; some repeat id and name in every piece. The library goes by the index
alone, so two calls would become one that cannot be read. Here the pieces get indexes that tell the calls apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pydantic_ai.messages import ModelResponseStreamEvent
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIStreamedResponse

from shared_schema.dataclass import dataclass


@dataclass(slots=True)
class _Call:
    """What has come of a call so far."""

    id: str
    name: str
    arguments: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether its arguments can be read, and so may be all."""
        try:
            return isinstance(json.loads(self.arguments), dict)
        except (ValueError, RecursionError):
            return False


class CallNumbers:
    """Gives the pieces of one answer's calls their numbers."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[object, int] = {}

    def renumber(self, index: object, call_id: str, name: str, arguments: str) -> tuple[int, str, str]:
        """The number of the call that a piece belongs to, and the id and name that it brings for the first time."""
        number = self._by_index.get(index) if index is not None else (len(self._calls) - 1 if self._calls else None)
        if number is None or self._begins_another(self._calls[number], call_id, name):
            number = len(self._calls)
            self._calls.append(_Call(call_id, name, arguments))
            self._by_index[index] = number
            return number, call_id, name
        call = self._calls[number]
        call.arguments += arguments
        new_id = "" if call.id else call_id
        call.id = call.id or call_id
        new_name = "" if name == call.name else name
        call.name += new_name
        return number, new_id, new_name

    @staticmethod
    def _begins_another(call: _Call, call_id: str, name: str) -> bool:
        if not name:
            return False
        if call_id and call.id:
            return call_id != call.id
        return call.is_whole


class _Renumbered(OpenAIStreamedResponse):
    """The library's reader of a stream, with numbers that tell the calls apart."""

    def _map_tool_call_delta(self, choice: Any) -> Iterable[ModelResponseStreamEvent]:
        numbers = self.__dict__.setdefault("call_numbers", CallNumbers())
        for piece in choice.delta.tool_calls or []:
            function = piece.function
            arguments = getattr(function, "arguments", None)
            if isinstance(arguments, dict):  # as Ollama's own format has them
                arguments = function.arguments = json.dumps(arguments)
            name = getattr(function, "name", None)
            piece.index, new_id, new_name = numbers.renumber(piece.index, piece.id or "", name or "", arguments or "")
            piece.id = new_id or None
            if function is not None:
                function.name = new_name or None
        return super()._map_tool_call_delta(choice)


class ChatModel(OpenAIChatModel):
    """Chat Completions, as it is spoken out there."""

    @property
    def _streamed_response_cls(self) -> type[OpenAIStreamedResponse]:
        return _Renumbered


class LocalModel(OllamaModel):
    """The same of Ollama."""

    @property
    def _streamed_response_cls(self) -> type[OpenAIStreamedResponse]:
        return _Renumbered
