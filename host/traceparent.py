"""Where a message stands in a trace: the `traceparent` of W3C's Trace Context, and the ids that follow from a message.

Ids are made from those of the ledger, so that every part of the host names the same span without asking, and a span
that is told twice is one. Pure.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from shared_schema.dataclass import dataclass

_HEADER = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
)
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace. `span_id` is the span that what comes next belongs to; `is_sampled`: its spans are kept."""

    trace_id: int
    span_id: int
    is_sampled: bool = True

    @property
    def header(self) -> str:
        """As the header `traceparent` has it."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.is_sampled):02x}"


def parse(header: str | None) -> TraceContext | None:
    """What a caller's header says; None without one, and for one that W3C's rules have ignored.

    A later version may say more behind the flags, which is not read.
    """
    found = _HEADER.match(header.strip()) if header is not None and len(header) <= 200 else None
    if found is None or found["version"] == "ff" or int(found["trace"], 16) == 0 or int(found["parent"], 16) == 0:
        return None
    rest = (header or "").strip()[found.end() :]
    if rest and (found["version"] == "00" or not rest.startswith("-")):
        return None
    return TraceContext(int(found["trace"], 16), int(found["parent"], 16), bool(int(found["flags"], 16) & _SAMPLED))


def normal(header: str | None) -> str | None:
    """The header as it is kept with a message; None for none that can be followed."""
    context = parse(header)
    return None if context is None else context.header


def of_message(message_id: str, traceparent: str | None) -> TraceContext:
    """The span of a message: in the trace of its caller, else the first of a trace of its own."""
    caller = parse(traceparent)
    trace_id = _number(16, "trace", message_id) if caller is None else caller.trace_id
    return TraceContext(trace_id, span_id("message", message_id), caller is None or caller.is_sampled)


def of_turn(message_id: str, traceparent: str | None, attempt: int) -> TraceContext:
    """The span of a turn: it belongs to the oldest message that it answers. `attempt` counts from 1."""
    message = of_message(message_id, traceparent)
    return TraceContext(message.trace_id, span_id("turn", message_id, str(attempt)), message.is_sampled)


def span_id(kind: str, *names: str) -> int:
    """The id of a span of this kind, of what has these names."""
    return _number(8, kind, *names)


def _number(size: int, *names: str) -> int:
    """A number of so many bytes, which is not 0: that is no id."""
    return int.from_bytes(blake2b("\0".join(names).encode(), digest_size=size).digest()) or 1
