"""What the gateway does not do, and how it says so: a plain sentence, in the form in which the asking SDK expects it.

Refused      a request that is answered with an error
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from host.gateway.upstreams import UpstreamKind
from shared_schema.errors import DumbwaiterError


class Reason(StrEnum):
    """Why a request was refused."""

    MALFORMED = "malformed"
    NO_SESSION = "no_session"
    TOO_MANY = "too_many_connections"
    UNKNOWN_UPSTREAM = "unknown_upstream"
    NO_KEY = "no_key"
    BUDGET = "budget"
    UNCOUNTED = "uncounted"
    NOT_OPEN = "not_open"
    RATE_LIMIT = "rate_limit"
    NEXT_KEY = "next_key"
    NOT_LISTED = "not_listed"
    NOT_PUBLIC = "not_public"
    UNREACHABLE = "unreachable"
    SILENT = "silent"
    BROKEN = "broken"


STATUS: Mapping[Reason, int] = {
    Reason.MALFORMED: 400,
    Reason.NO_SESSION: 403,
    Reason.TOO_MANY: 503,
    Reason.UNKNOWN_UPSTREAM: 404,
    Reason.NO_KEY: 401,
    Reason.BUDGET: 402,  # SDKs try again after 429, which would be in vain
    Reason.UNCOUNTED: 403,
    Reason.NOT_OPEN: 403,
    Reason.RATE_LIMIT: 429,
    Reason.NEXT_KEY: 429,
    Reason.NOT_LISTED: 403,
    Reason.NOT_PUBLIC: 403,
    Reason.UNREACHABLE: 502,
    Reason.SILENT: 504,
    Reason.BROKEN: 500,
}
TEXT: Mapping[int, str] = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}

# The names of errors in the vendors' documentation, by status; every other status is an error of the service.
_ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_OPENAI = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    402: ("insufficient_quota", "insufficient_quota"),
    403: ("invalid_request_error", None),
    404: ("invalid_request_error", None),
    429: ("requests", "rate_limit_exceeded"),
}
_GOOGLE = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Refused(DumbwaiterError):
    """A request that is answered with an error; `retry_after` in seconds. `status` is the one of its reason."""

    def __init__(self, reason: Reason, what: str, *, status: int | None = None, retry_after: int | None = None) -> None:
        super().__init__(what)
        self.reason = reason
        self.status = STATUS[reason] if status is None else status
        self.retry_after = retry_after


def answer(refused: Refused, kind: UpstreamKind | None = None) -> bytes:
    """The whole response; `kind` is that of the upstream that was asked for, None for anything else: plain text."""
    if kind is None:
        body, content_type = f"{refused.what}\n".encode(), "text/plain; charset=utf-8"
    else:
        body, content_type = json.dumps(_error(refused, kind), ensure_ascii=False).encode(), "application/json"
    lines = [
        f"HTTP/1.1 {refused.status} {TEXT.get(refused.status, 'Error')}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        f"X-Dumbwaiter-Refused: {refused.reason}",
    ]
    if refused.retry_after is not None:
        lines.append(f"Retry-After: {refused.retry_after}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _error(refused: Refused, kind: UpstreamKind) -> dict[str, Any]:
    what, status = refused.what, refused.status
    match kind:
        case UpstreamKind.ANTHROPIC:
            return {"type": "error", "error": {"type": _ANTHROPIC.get(status, "api_error"), "message": what}}
        case UpstreamKind.GOOGLE:
            return {"error": {"code": status, "message": what, "status": _GOOGLE.get(status, "INTERNAL")}}
        case UpstreamKind.OLLAMA:
            return {"error": what}
        case _:
            type_, code = _OPENAI.get(status, ("server_error", None))
            return {"error": {"message": what, "type": type_, "param": None, "code": code}}
