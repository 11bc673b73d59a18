"""Whether an agent group takes an event. Pure.

Patterns are RE2: matching takes time linear in the text, so no pattern and no text can hang the router, and a pattern
that RE2 refuses (broken, or with look-around or back-references) is refused when it is set, never at match time.
Source: github.com/google/re2/wiki/Syntax. This is the only module that imports `re2`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import re2

from host.central.messaging_groups import Engage
from shared_schema.errors import InvalidValue
from shared_schema.text import folded

MAX_PATTERN = 1_000
MAX_TEXT = 32_000
_MAX_WORK = 40_000_000
"""Bytes of text times instructions of the pattern. Where RE2's fast matcher gives up, each pair takes some 12 ns."""
_MAX_MEMORY = 8 * 1024**2


def engages(
    engage: str,
    pattern: str | None,
    *,
    text: str,
    is_mention: bool,
    is_group: bool,
    was_mentioned: bool = False,
) -> bool:
    """Whether a wiring's rule takes a message. In a direct chat every message is meant for the agent.

    `was_mentioned` says that the agent was mentioned before in the message's thread: `mention-sticky` takes all of it.
    `pattern` is searched in the first 32,000 characters, in fewer when it is very large: never for a second. A pattern
    that cannot be used engages nothing.
    """
    if engage == Engage.ALL:
        return True
    if engage == Engage.MENTION:
        return is_mention or not is_group
    if engage == Engage.MENTION_STICKY:
        return is_mention or was_mentioned or not is_group
    if engage == Engage.PATTERN and pattern is not None:
        try:
            compiled = _compiled(pattern)
        except InvalidValue:
            return False
        searched = text[:MAX_TEXT].encode("utf-8", "replace")[: _MAX_WORK // compiled.programsize]
        return compiled.search(searched) is not None
    return False


def names(agent_group: str, text: str) -> bool:
    """Whether a message names an agent: its name as a word of its own, in any case, with or without `@`."""
    return re.search(rf"(?<![\w-]){re.escape(agent_group)}(?![\w-])", folded(text, MAX_TEXT)) is not None


def valid_pattern(pattern: str) -> str:
    """`pattern`, if it can be used. Raises `InvalidValue` that says what is wrong with it."""
    if len(pattern) > MAX_PATTERN:
        raise InvalidValue(f"the pattern has {len(pattern)} characters, and {MAX_PATTERN} are allowed")
    _compiled(pattern)
    return pattern


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    try:
        return re2.compile(pattern, options)
    except UnicodeEncodeError as error:
        raise InvalidValue("the pattern has half characters") from error
    except re2.error as error:
        reason = error.args[0]
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidValue(
            f"the pattern '{pattern}' cannot be used: {reason}",
            hint="patterns are RE2, without look-around and back-references",
        ) from error
