"""The Claude Agent SDK, imported when a turn needs it: it takes a moment, and the plain image does not have it.

It is used without its types, so that everything here can be checked where it is not installed.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

from container_agent.providers.protocol import ProviderError
from shared_schema import provisions
from shared_schema.rows import FailureReason


def sdk() -> Any:
    """The library. Raises `ProviderError` (bad input) when it is not installed."""
    logging.getLogger("claude_agent_sdk").setLevel(logging.WARNING)  # at every start it tells which program it starts
    try:
        return import_module("claude_agent_sdk")
    except ImportError as error:
        raise missing() from error


def missing() -> ProviderError:
    """The failure of a turn that does not find the SDK, or the program it starts."""
    return ProviderError(FailureReason.BAD_INPUT, provisions.missing("claude"))
