"""Model calls for traces: each stands where the session's agent is at work. Kept until they are told, and bounded."""

from __future__ import annotations

import logging
import secrets
from collections import deque

from host.central import ingest
from host.central.database import Central
from host.gateway.call_span import CallSpan
from host.traceparent import TraceContext, of_turn
from shared_schema.clock import Clock
from shared_schema.errors import FileTrouble

log = logging.getLogger(__name__)

_MOST = 10_000


class TracedCalls:
    """The calls that are over and were not told yet; while no collector takes them, the newest of them."""

    def __init__(self, central: Central, clock: Clock) -> None:
        self._central = central
        self._clock = clock
        self._over: deque[CallSpan] = deque(maxlen=_MOST)

    async def begin(self, session_id: str, upstream: str, kind: str) -> CallSpan:
        """A call that is about to be made. That the ledger cannot be read stops no call: it is a trace of its own."""
        began = self._now()
        turn = TraceContext(secrets.randbits(128) or 1, 0)
        try:
            asked = await self._central.read(ingest.oldest_unanswered, session_id)
        except FileTrouble:
            log.debug("a model call stands in no trace", extra={"session_id": session_id})
        else:
            if asked is not None:
                turn = of_turn(asked.message_id, asked.traceparent, asked.tries + 1)
        own = TraceContext(turn.trace_id, secrets.randbits(64) or 1, turn.is_sampled)
        return CallSpan(own.header, turn.span_id, session_id, upstream, kind, turn.is_sampled, began)

    def end(self, span: CallSpan) -> None:
        """The call is over."""
        span.ended = self._now()
        if span.is_sampled:
            self._over.append(span)

    def _now(self) -> int:
        return round(self._clock.now().timestamp() * 1_000_000) * 1000

    def take(self) -> list[CallSpan]:
        """Those that are over and were not taken before."""
        taken = list(self._over)
        self._over.clear()
        return taken
