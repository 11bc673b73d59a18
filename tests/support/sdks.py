"""The SDKs of others, imported when a test uses them and not when it is collected.

Every process that runs tests collects all of them, and these imports are a quarter of that.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Later:
    """A module that is imported when the first of its public names is asked for.

    The others are what pytest and `inspect` ask of every name in a module that they collect.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(import_module(self._name), name)
