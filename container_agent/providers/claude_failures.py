"""What went wrong with a turn of the SDK, as a reason and one sentence. Pure.

Invariant: nothing that the service or the SDK said is in a sentence, only numbers and names of ours.
"""

from __future__ import annotations

from datetime import UTC, datetime

from container_agent.providers import service_words
from container_agent.providers.claude_transcript import Transcript
from container_agent.providers.protocol import ProviderError
from shared_schema.rows import FailureReason

_NO_CREDIT = 402
_TOO_LARGE = 413
_OVERLOADED = frozenset({503, 529})
_AWAY = frozenset({408, 502, 504})
_ELSEWHERE = frozenset({FailureReason.RATE_LIMITED, FailureReason.KEY_REFUSED, FailureReason.NETWORK})


def of_transcript(heard: Transcript, service: str, model: str) -> ProviderError:
    """The failure that the last message of a turn reports; an empty `model` is the SDK's own choice."""
    reason, sentence = _said(heard, service, f"'{model}'" if model else "the model")
    elsewhere = reason in _ELSEWHERE or (heard.result.api_error_status or 0) >= 500
    return ProviderError(reason, sentence, detail=_detail(heard), elsewhere=elsewhere)


def _detail(heard: Transcript) -> str:
    """What the service said itself, as the SDK passes it on: `API Error: 400 {…}`."""
    said = str(getattr(heard.result, "result", None) or "").removeprefix("API Error:").strip()
    status, _, body = said.partition(" ")
    if status.isdigit() and body.startswith("{"):
        return service_words.words(body, int(status))
    return service_words.words(said) if said else ""


def _said(heard: Transcript, service: str, model: str) -> tuple[FailureReason, str]:
    result, kind = heard.result, heard.error
    status = result.api_error_status
    if result.terminal_reason == "prompt_too_long" or status == _TOO_LARGE:
        sentence = f"the conversation is too long for {model}; /compress goes on from a summary, /new begins afresh"
        return FailureReason.CONTEXT_TOO_LONG, sentence
    if result.stop_reason == "refusal":
        return FailureReason.REFUSED, f"{model} refused to answer this"
    if kind == "billing_error" or status == _NO_CREDIT:
        return FailureReason.RATE_LIMITED, "there is nothing left to spend, in this agent's budget or in the account"
    if kind == "rate_limit" or status == 429:
        return FailureReason.RATE_LIMITED, f"{service} takes no more requests {_until(heard.resets_at)}"
    if kind == "authentication_failed" or status in (401, 403):
        return FailureReason.KEY_REFUSED, f"{service} refused the key; {_another_key(service)}"
    if kind == "model_not_found" or status == 404:
        return FailureReason.MODEL_NOT_FOUND, f"{service} does not have {model}"
    if status in _OVERLOADED:
        return FailureReason.RATE_LIMITED, f"{service} is overloaded; try again later"
    if status in _AWAY or (status is None and result.terminal_reason == "api_error"):
        return FailureReason.NETWORK, f"{service} cannot be reached, or the connection to it was lost"
    if status is not None and status >= 500:
        return FailureReason.PROVIDER_ERROR, f"{service} had an error of its own (status {status}); try again later"
    if status is not None:
        return FailureReason.BAD_INPUT, f"{service} did not accept the request for {model} (status {status})"
    return FailureReason.PROVIDER_ERROR, "the Claude Agent SDK could not finish the turn"


def _another_key(service: str) -> str:
    return f"set another one on the host: dumbwaiter init --model {service}"


class ProgramDied(ProviderError):
    """The SDK's program was there and ended in mid-turn, or said what cannot be understood.

    That is not the model's answer: it was killed with the agent, or by a system that is short of memory.
    """

    def __init__(self) -> None:
        super().__init__(FailureReason.PROVIDER_ERROR, "the program of the Claude Agent SDK ended unexpectedly")


def _until(resets_at: int | None) -> str:
    if resets_at is None:
        return "for now"
    return f"until {datetime.fromtimestamp(resets_at, UTC):%Y-%m-%d %H:%M} UTC"
