"""How often the host looks at a session with an agent on a mount that carries no events. Pure.

Often just after something happened and while a person waits, more and more seldom at rest, so that hundreds of agents
at rest cost next to nothing. A session without an agent is not looked at by polling at all.
"""

from __future__ import annotations

QUICK_SECONDS = 0.05
SHARE = 0.05
"""Of the time since something happened last: 5 s after it, four times a second while an answer is wanted."""
REST_SHARE = 0.1
"""The same while none is. These looks are most of what a message costs on such a mount (docs/scale.md)."""
REST_SECONDS = 10.0
"""At rest; what a silent agent may be late by is a part of that."""
COST = 10.0
"""How many times as long as a look took the next one is away: a slow mount, or a machine with too much to do, is looked
at less often, so that other work gets its turn."""


def poll_after(since: float, *, waits: bool, poll_seconds: float, took: float = 0.0) -> float:
    """Seconds until the next look, so many seconds after the last message or output; `waits`: an answer is wanted.

    `took` is how many seconds the last look has taken.
    """
    longest = poll_seconds if waits else max(poll_seconds, REST_SECONDS)
    return min(longest, max(QUICK_SECONDS, COST * took, since * (SHARE if waits else REST_SHARE)))
