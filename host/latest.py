"""What is remembered of the latest of many, so that it does not grow for as long as the host runs."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Latest(dict[K, V]):
    """A dictionary of at most so many keys: with one more, the one that was set longest ago is forgotten."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        self.pop(key, None)  # what is set again is the latest
        super().__setitem__(key, value)
        if len(self) > self._most:
            del self[next(iter(self))]
