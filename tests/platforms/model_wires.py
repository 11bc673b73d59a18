"""The three formats with one face, for the fake model server: what is asked, what is used, and the answer in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from tests.platforms import anthropic_wire, google_wire, model_rules, openai_wire
from tests.platforms.model_answer import Answer, Asked, Cache


class Anthropic:
    """Answers in the format of Anthropic Messages."""

    def __init__(self, path: str, body: dict[str, Any], answer: Answer, cache: Cache, number: int) -> None:
        self._body, self._answer, self._number = body, answer, number
        self.used = anthropic_wire.used(self._body, self._answer, cache)

    breach = staticmethod(model_rules.breach_of_anthropic)

    @staticmethod
    def asked(body: dict[str, Any]) -> Asked:
        return anthropic_wire.asked(body)

    def fault(self) -> tuple[int, dict[str, Any]]:
        return anthropic_wire.fault(self._body, self._answer)

    def whole(self) -> dict[str, Any]:
        return anthropic_wire.whole(self._body, self._answer, self.used, self._number)

    def before(self) -> Iterator[bytes]:
        events = [*anthropic_wire.start(self._body, self.used, self._number)]
        if self._answer.reasoning:
            events += anthropic_wire.reasoning(self._answer, self._number)
        if self._answer.text:
            events.append(anthropic_wire.text_start(self._answer))
        return map(anthropic_wire.encoded, events)

    def piece(self, text: str) -> bytes:
        return anthropic_wire.encoded(anthropic_wire.piece(self._answer, text))

    def failing(self) -> bytes:
        return anthropic_wire.encoded(anthropic_wire.failing())

    def end(self) -> Iterator[bytes]:
        return map(anthropic_wire.encoded, anthropic_wire.end(self._answer, self.used, self._number))


class OpenAI:
    """Answers in the format of OpenAI Chat Completions."""

    def __init__(self, path: str, body: dict[str, Any], answer: Answer, cache: Cache, number: int) -> None:
        self._body, self._answer, self._number = body, answer, number
        self.used = openai_wire.used(self._body, self._answer, cache)

    breach = staticmethod(model_rules.breach_of_openai)

    @staticmethod
    def asked(body: dict[str, Any]) -> Asked:
        return openai_wire.asked(body)

    def fault(self) -> tuple[int, dict[str, Any]]:
        return openai_wire.fault(self._body, self._answer)

    def whole(self) -> dict[str, Any]:
        return openai_wire.whole(self._body, self._answer, self.used, self._number)

    def before(self) -> Iterator[bytes]:
        events = [*openai_wire.start(self._body, self.used, self._number)]
        if self._answer.reasoning:
            events += openai_wire.reasoning(self._body, self._answer, self._number)
        return map(openai_wire.encoded, events)

    def piece(self, text: str) -> bytes:
        return openai_wire.encoded(openai_wire.piece(self._body, self._answer, self._number, text))

    def failing(self) -> bytes:
        return openai_wire.encoded(openai_wire.failing())

    def end(self) -> Iterator[bytes]:
        yield from map(openai_wire.encoded, openai_wire.end(self._body, self._answer, self.used, self._number))
        yield b"data: [DONE]\n\n"


class Google:
    """Answers in the format of Gemini, whose requests name the model in their path."""

    def __init__(self, path: str, body: dict[str, Any], answer: Answer, cache: Cache, number: int) -> None:
        self._answer, self._number = answer, number
        self._model = path.rpartition("/")[2].partition(":")[0]
        self.used = google_wire.used(body, self._answer, cache)

    breach = staticmethod(model_rules.breach_of_google)

    @staticmethod
    def asked(body: dict[str, Any]) -> Asked:
        return google_wire.asked(body)

    def fault(self) -> tuple[int, dict[str, Any]]:
        return google_wire.fault(self._model, self._answer)

    def whole(self) -> dict[str, Any]:
        return google_wire.whole(self._model, self._answer, self.used, self._number)

    def before(self) -> Iterator[bytes]:
        if self._answer.reasoning:
            yield google_wire.encoded(google_wire.reasoning(self._model, self._answer, self.used, self._number))

    def piece(self, text: str) -> bytes:
        return google_wire.encoded(google_wire.piece(self._model, self.used, self._number, text))

    def failing(self) -> bytes:
        return google_wire.encoded(google_wire.failing())

    def end(self) -> Iterator[bytes]:
        return map(google_wire.encoded, google_wire.end(self._model, self._answer, self.used, self._number))


Wire: TypeAlias = Anthropic | OpenAI | Google
