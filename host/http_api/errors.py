"""Why a call is refused, and in which form a program is told: OpenAI's below `/v1`, problem+json (RFC 9457) elsewhere.

Pure.
"""

from __future__ import annotations

import json
from dataclasses import field
from typing import Any

from host.operations.asking import BudgetUsedUp, NotAllowed
from host.sessions.attachments import AttachmentRefused
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, DumbwaiterError, FileTrouble, InvalidValue, NotFound

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_TITLES = {
    400: "the call cannot be right",
    401: "a token is needed",
    403: "the token may not do this",
    404: "not found",
    405: "this cannot be done here",
    408: "the call came too slowly",
    409: "the state of things forbids this",
    413: "the call is too large",
    415: "the body is of another type",
    429: "too much",
    503: "not now",
}
_MOST_RETRY = "3600"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is answered in place of a result. `again`: whether the very same call may go well later."""

    status: int
    what: str
    hint: str | None = None
    code: str | None = None
    param: str | None = None
    again: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What happened, and what to do next."""
        return self.what if self.hint is None else f"{self.what}: {self.hint}"


class CallRefused(Exception):
    """A call that gets a refusal of this layer's own."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.what)
        self.refusal = refusal


def refusal_of(error: DumbwaiterError) -> Refusal:
    """What a program is told of an error of the host's: the sentence that everybody is told, and what to do next."""
    what, hint = error.what, error.hint
    match error:
        case NotAllowed():
            return Refusal(403, what, hint, "not_allowed")
        case BudgetUsedUp():
            return Refusal(429, what, hint, "insufficient_quota", headers={"Retry-After": _MOST_RETRY})
        case AttachmentRefused():
            return Refusal(413, what, hint, "too_large")
        case InvalidValue():
            return Refusal(400, what, hint, "invalid_value")
        case NotFound():
            return Refusal(404, what, hint, "not_found")
        case Conflict():
            return Refusal(409, what, hint, "conflict")
        case FileTrouble():
            return Refusal(503, what, own_hint(error), "file_trouble", again=True, headers={"Retry-After": "5"})
        case _:
            return Refusal(500, what, own_hint(error), "failed")


def own_hint(error: DumbwaiterError) -> str | None:
    """A hint that the error was given; one of the system's own names paths, which are no program's business."""
    return error.own_hint


UNEXPECTED = Refusal(500, "something unexpected went wrong", "the host's log says more", "unexpected")


def headers_of(refusal: Refusal) -> dict[str, str]:
    """The headers of a refusal. OpenAI's clients try again by themselves, unless they are told not to."""
    return {"x-should-retry": str(refusal.again).lower(), **refusal.headers}


def as_openai(refusal: Refusal) -> dict[str, Any]:
    """The body that OpenAI's clients understand."""
    kind = _TYPES.get(refusal.status, "server_error" if refusal.status >= 500 else "invalid_request_error")
    if refusal.code == "insufficient_quota":
        kind = "insufficient_quota"
    return {"error": {"message": refusal.sentence, "type": kind, "param": refusal.param, "code": refusal.code}}


def as_problem(refusal: Refusal) -> dict[str, Any]:
    """The body of RFC 9457: `detail` is the sentence, `next` what to do."""
    return {
        "type": "about:blank",
        "title": _TITLES.get(refusal.status, "it failed"),
        "status": refusal.status,
        "detail": refusal.what,
        "next": refusal.hint,
        "code": refusal.code,
    }


def as_json(value: Any) -> str:
    """JSON as it is sent."""
    return json.dumps(value, ensure_ascii=False)
