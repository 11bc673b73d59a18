"""The SDKs of others, imported when a test uses them and not when it is collected.

Every process that runs tests collects all of them, and these imports are a quarter of that.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Later:
    """A module that is imported when the first of its names is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)
