"""Which calls of tools run now, and until when they may, for `agent_state`."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

SetTool = Callable[[str | None, float | None], None]
"""Is told which tool runs, and for how many seconds it may; None: none does."""

_GRACE_SECONDS = 5.0  # a tool that is at its limit has to end first; only then it is taken for a hang


class Running:
    """The calls of one turn. Of several the one that may take longest is named."""

    def __init__(self, set_tool: SetTool) -> None:
        self._set_tool = set_tool
        self._calls: dict[object, tuple[float, str]] = {}  # by their keys: the deadline, and the tool's name

    def begin(self, key: object, name: str, seconds: float) -> None:
        """A call begins that may take that long."""
        self._calls[key] = (monotonic() + seconds + _GRACE_SECONDS, name)
        self._say()

    def end(self, key: object) -> None:
        """End a call. One that is not known here was announced elsewhere; then the known ones are announced again."""
        if self._calls.pop(key, None) is not None or self._calls:
            self._say()

    def _say(self) -> None:
        if not self._calls:
            self._set_tool(None, None)
            return
        deadline, name = max(self._calls.values())
        self._set_tool(name, max(0.0, deadline - monotonic()))
