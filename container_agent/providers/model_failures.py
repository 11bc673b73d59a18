"""What went wrong with a model service, as a reason and one sentence. Pure.

Invariant: nothing that a service sent is in a sentence: its words may hold a key, a prompt or a page of HTML. The one
exception is the host's gateway, whose refusals are marked, and are sentences for people.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic_ai import exceptions

from container_agent.providers import service_words
from container_agent.providers.model_names import ModelChoice
from container_agent.providers.protocol import ProviderError
from shared_schema.models import ModelKind
from shared_schema.rows import FailureReason

_MOST_SECONDS = 20.0
_REFUSED_BY_GATEWAY = "x-dumbwaiter-refused"
_GATEWAY_REASONS = {
    "budget": FailureReason.RATE_LIMITED,
    "rate_limit": FailureReason.RATE_LIMITED,
    "too_many_connections": FailureReason.RATE_LIMITED,
    "next_key": FailureReason.RATE_LIMITED,
    "no_key": FailureReason.KEY_REFUSED,
    "unreachable": FailureReason.NETWORK,
    "silent": FailureReason.NETWORK,
    "host_away": FailureReason.NETWORK,
}
_TOO_LARGE = 413
_OF_THIS_AGENT = ("budget", "rate_limit", "too_many_connections")
"""Refusals of the gateway that every model of this agent meets."""
_ELSEWHERE = frozenset({FailureReason.RATE_LIMITED, FailureReason.KEY_REFUSED, FailureReason.NETWORK})
_UNSENT = ("connect", "pool")
_MOST_SENTENCE = 500


def seconds_to_wait(error: exceptions.ModelAPIError, otherwise: float) -> float | None:
    """How long to wait before the same is asked again; None when that is no use, or takes too long.

    For a request that could not be sent, and for errors that say when to come again. What was sent and not answered may
    have been carried out, and paid for.
    """
    if isinstance(error, exceptions.ModelTimeoutError | exceptions.ModelQuotaExceededError):
        return None
    if isinstance(error, exceptions.ModelConnectionError):
        return otherwise if error.phase in _UNSENT else None
    if isinstance(error, exceptions.ModelHTTPError) and (error.status_code == 429 or error.status_code >= 500):
        return error.retry_after if error.retry_after is not None and error.retry_after <= _MOST_SECONDS else None
    return None


def failure_of(error: Exception, choice: ModelChoice, now: datetime) -> ProviderError:
    """The failure of a turn that ended with this error of the library's."""
    if isinstance(error, exceptions.ModelHTTPError) and (refused := _of_gateway(error)):
        return refused
    reason, sentence = _said(error, choice, now)
    broke = isinstance(error, exceptions.ModelUnavailableError | exceptions.ModelServerError)
    return ProviderError(reason, sentence, detail=_detail(error), elsewhere=broke or reason in _ELSEWHERE)


def _detail(error: Exception) -> str:
    """What the service said itself; of an answer that cannot be read, what it begins with."""
    if isinstance(error, exceptions.ModelHTTPError):
        return service_words.words(error.body, error.status_code)
    body = getattr(error, "body", None)
    return service_words.words(body) if body else ""


def _said(error: Exception, choice: ModelChoice, now: datetime) -> tuple[FailureReason, str]:
    service, model = choice.service, choice.name
    match error:
        case exceptions.ModelContextWindowExceededError():
            return too_long(model)
        case exceptions.ModelHTTPError(status_code=status) if status == _TOO_LARGE:
            return too_long(model)
        case exceptions.ModelAuthenticationError():
            return FailureReason.KEY_REFUSED, f"{service} refused the key; {_another_key(service)}"
        case exceptions.ModelNotFoundError() if not _names_a_model(error, model):
            return FailureReason.MODEL_NOT_FOUND, (
                f"{service} has nothing at the place where it was asked{_status(error)}: {_url(choice)}, "
                f"or there is no model '{model}'"
            )
        case exceptions.ModelNotFoundError():
            return FailureReason.MODEL_NOT_FOUND, f"{service} has no model '{model}'; {_another_model(choice)}"
        case exceptions.ModelHTTPError(status_code=405):
            return FailureReason.PROVIDER_ERROR, f"{service} takes no such request{_status(error)}: {_url(choice)}"
        case exceptions.ModelQuotaExceededError():
            return FailureReason.RATE_LIMITED, f"the account at {service} has nothing left to spend"
        case exceptions.ModelRateLimitError():
            return FailureReason.RATE_LIMITED, f"{service} takes no more requests {_until(error, now)}"
        case exceptions.ModelOverloadedError():
            return FailureReason.RATE_LIMITED, f"{service} is overloaded; try again later"
        case exceptions.ModelUnavailableError() | exceptions.ModelServerError():
            return FailureReason.PROVIDER_ERROR, f"{service} had an error of its own{_status(error)}; try again later"
        case exceptions.ModelTimeoutError() | exceptions.ModelRequestTimeout():
            return FailureReason.NETWORK, f"{service} was silent for too long"
        case exceptions.ModelConnectionError(in_stream=False, phase="connect" | "pool"):
            start = "; is it running? `ollama serve` starts it" if choice.kind is ModelKind.OLLAMA else ""
            return FailureReason.NETWORK, f"{service} cannot be reached{start}"
        case exceptions.ModelConnectionError():
            return FailureReason.NETWORK, f"the connection to {service} was lost"
        case exceptions.ContentFilterError():
            return refused(model)
        case exceptions.ModelRequestRejectedError():
            return FailureReason.BAD_INPUT, f"{service} did not accept the request for '{model}'{_status(error)}"
        case exceptions.ModelHTTPError():
            return FailureReason.PROVIDER_ERROR, f"{service} answered with an error{_status(error)}"
    what = "" if choice.is_vendor else f": {_url(choice)}"
    return FailureReason.PROVIDER_ERROR, f"the answer of {service} could not be understood{what}"


def _names_a_model(error: exceptions.ModelNotFoundError, model: str) -> bool:
    """Whether the service speaks of a model. One that has nothing at that path answers with a page, or with nothing."""
    said = _detail(error).lower()
    return "model" in said or (bool(model) and model.lower() in said)


def _url(choice: ModelChoice) -> str:
    return f"its URL may be wrong, which often has to end in /v1 (upstreams.{choice.service}.url on the host)"


def _another_key(service: str) -> str:
    return f"set another one on the host: dumbwaiter init --model {service}"


def _another_model(choice: ModelChoice) -> str:
    if choice.kind is ModelKind.OLLAMA:
        return f"get it where Ollama runs: ollama pull {choice.name}"
    return f"set another one on the host: dumbwaiter agent-group set AGENT --model {choice.kind}:NAME"


def too_long(model: str) -> tuple[FailureReason, str]:
    """The prompt does not fit."""
    sentence = f"the conversation is too long for '{model}'; /compress goes on from a summary, /new begins afresh"
    return FailureReason.CONTEXT_TOO_LONG, sentence


def refused(model: str) -> tuple[FailureReason, str]:
    """The model will not answer, or may not."""
    return FailureReason.REFUSED, f"'{model}' refused to answer this"


def _of_gateway(error: exceptions.ModelHTTPError) -> ProviderError | None:
    """The failure when it was the host's gateway that refused, in its own words."""
    reason = (error.headers or {}).get(_REFUSED_BY_GATEWAY)
    if reason is None:
        return None
    body = error.body
    for _ in range(2):  # `error` may stand around it or not, and is a text with Ollama
        body = body.get("error", body) if isinstance(body, dict) else body
    message = body.get("message") if isinstance(body, dict) else body
    sentence = (message.strip() if isinstance(message, str) else "") or "the host's gateway refused the request"
    found = _GATEWAY_REASONS.get(reason, FailureReason.BAD_INPUT)
    elsewhere = found in _ELSEWHERE and reason not in _OF_THIS_AGENT
    return ProviderError(found, sentence[:_MOST_SENTENCE], elsewhere=elsewhere)


def _until(error: exceptions.ModelAPIError, now: datetime) -> str:
    if error.retry_after is None:
        return "for now"
    moment = now + timedelta(seconds=min(error.retry_after, 366 * 86_400))
    return f"until {moment:%H:%M:%S} UTC" if moment.date() == now.date() else f"until {moment:%Y-%m-%d %H:%M} UTC"


def _status(error: Exception) -> str:
    return f" (status {error.status_code})" if isinstance(error, exceptions.ModelHTTPError) else ""
