"""How often the host looks at a session with an agent on a mount that carries no events. Pure.

Often just after something happened and while a person waits, more and more seldom at rest, so that hundreds of agents
at rest cost next to nothing. A session without an agent is not looked at by polling at all.
"""

from __future__ import annotations

QUICK_SECONDS = 0.05
SHARE = 0.02
"""Of the time since something happened last: 5 s after it, ten times a second while an answer is wanted."""
REST_SHARE = 0.1
"""The same while none is. These looks are most of what a message costs on such a mount (docs/scale.md)."""
REST_SECONDS = 10.0
"""At rest; what a silent agent may be late by is a part of that."""


def poll_after(since: float, *, waits: bool, poll_seconds: float) -> float:
    """Seconds until the next look, so many seconds after the last message or output; `waits`: an answer is wanted."""
    longest = poll_seconds if waits else max(poll_seconds, REST_SECONDS)
    return min(longest, max(QUICK_SECONDS, since * (SHARE if waits else REST_SHARE)))
