"""What a model call leaves for a trace: when it was made, of which service, and how it ended."""

from __future__ import annotations

from typing import Protocol

from host.gateway.usage import CallUsage
from shared_schema.dataclass import dataclass


@dataclass(slots=True)
class CallSpan:
    """One model call. Times are nanoseconds since 1970; `traceparent` goes to the service with the call.

    `error` is a word for how it failed; no text of the call or its answer is kept.
    """

    traceparent: str
    parent_span_id: int
    session_id: str
    upstream: str
    kind: str
    is_sampled: bool = True
    began: int = 0
    ended: int = 0
    status: int | None = None
    usage: CallUsage | None = None
    error: str | None = None


class CallSpans(Protocol):
    """What makes them and takes them when they are over."""

    async def begin(self, session_id: str, upstream: str, kind: str) -> CallSpan:
        """A call that is about to be made."""
        ...

    def end(self, span: CallSpan) -> None:
        """The call is over."""
        ...
