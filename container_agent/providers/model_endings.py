"""How an answer ended, out of the word of its service. Pure.

The library knows the words of the vendors; others who speak their formats have words of their own, or none. An unknown
word is an end all the same: an answer is taken for broken only when the service says so or says nothing.
"""

from __future__ import annotations

from enum import Enum, auto

from pydantic_ai.messages import ModelResponse

from shared_schema.dataclass import dataclass


class How(Enum):
    """What an end means for who asked."""

    WHOLE = auto()
    CUT = auto()  # at the longest that the model may write at once
    FULL = auto()  # at the end of the model's window
    REFUSED = auto()
    BROKEN = auto()  # the service failed while it answered
    MUDDLED = auto()  # the model wrote what the service could not read


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an answer; `word` is the service's own, empty when it said none."""

    how: How
    word: str


_MOST_WORD = 100
_BY_WORD = {
    How.FULL: (
        "model_context_window_exceeded", "context_length_exceeded", "context_window_exceeded", "model_length",
        "context_length", "max_context_length",
    ),
    How.CUT: (
        "length", "max_tokens", "max_output_tokens", "max_completion_tokens", "token_limit", "max_length", "truncated",
    ),
    How.REFUSED: (
        "content_filter", "content_filtered", "safety", "refusal", "guardrail_intervened", "sensitive", "recitation",
        "blocklist", "prohibited_content", "spii", "image_safety", "image_prohibited_content", "language",
    ),
    How.BROKEN: (
        "error", "abort", "aborted", "cancelled", "canceled", "failed", "network_error", "server_error",
        "insufficient_system_resource", "engine_overloaded", "timeout",
    ),
    How.MUDDLED: (
        "malformed_function_call", "unexpected_tool_call", "malformed_response", "too_many_tool_calls",
        "missing_thought_signature", "no_image", "other", "finish_reason_unspecified",
    ),
}  # fmt: skip
_HOW = {word: how for how, words in _BY_WORD.items() for word in words}
_OF_LIBRARY = {
    "stop": How.WHOLE,
    "tool_call": How.WHOLE,
    "length": How.CUT,
    "content_filter": How.REFUSED,
    "error": How.BROKEN,
}


def ending_of(response: ModelResponse) -> Ending | None:
    """How an answer ended; None when it did not come to its end."""
    said = (response.provider_details or {}).get("finish_reason")
    word = said if isinstance(said, str) else ""
    if response.state != "complete" or (response.finish_reason is None and not word):
        return None
    by_library = _OF_LIBRARY.get(response.finish_reason or "", How.WHOLE)
    how = _HOW.get(word.strip().lower(), by_library)
    if by_library is How.REFUSED:
        how = How.REFUSED  # a service can refuse in another field, and end with a word for a whole answer
    return Ending(how, (word or response.finish_reason or "")[:_MOST_WORD])
