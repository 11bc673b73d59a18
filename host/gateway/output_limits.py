"""How long an answer of a model can be. Pure.

What a call can use is reserved in a budget before it begins. Where a request does not say how long its answer may be,
the longest that any model gives would keep a second call waiting at the end of a small budget, although both fit. So
for models whose limit their vendor documents that is taken; for all others the setting `answer_tokens`.
"""

from __future__ import annotations

import re
from collections.abc import Collection

# From the vendors' lists of models. The first that matches counts; a name may have a date behind it.
_LIMITS = tuple(
    (re.compile(pattern), tokens)
    for pattern, tokens in (
        (r"gpt-5-chat", 16_384),
        (r"gpt-5", 128_000),
        (r"o[134](?:-|$)", 100_000),
        (r"gpt-4\.1", 32_768),
        (r"(?:chat)?gpt-4o", 16_384),
        (r"gpt-4-turbo", 4_096),
        (r"gpt-4(?:-\d{4})?$", 8_192),
        (r"gpt-3\.5-turbo", 4_096),
        (r"gemini-(?:2\.5|3)", 65_536),
        (r"gemini-(?:1\.5|2\.0)", 8_192),
    )
)
_LONGEST_NAME = 200


def largest_output(models: Collection[str], otherwise: int) -> int:
    """Tokens of the longest answer that any of these models gives; `otherwise` where one of them is not known."""
    return max((_largest(name, otherwise) for name in models), default=otherwise)


def _largest(name: str, otherwise: int) -> int:
    bare = name[:_LONGEST_NAME].lower().rpartition("/")[2]
    return next((tokens for pattern, tokens in _LIMITS if pattern.match(bare)), otherwise)
