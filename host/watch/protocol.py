"""What the host asks of a source of hints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Watcher(Protocol):
    """Calls back, in the event loop, soon after `outbound.db` in a watched folder has changed. Hints may be missing."""

    def watch(self, folders: Mapping[Path, str]) -> None:
        """Watch these folders (folder → session id) from now on, and no others. Each new one is hinted once."""
        ...

    def poll_now(self) -> None:
        """A person has begun to wait for an answer."""
        ...

    async def close(self) -> None:
        """Stop watching."""
        ...
