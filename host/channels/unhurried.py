"""Questions that wait for news: a server that answers them at once, with nothing new, is not asked without end."""

from __future__ import annotations

import asyncio
from dataclasses import field

from shared_schema.dataclass import dataclass

LEAST_SECONDS = 1.0


def _now() -> float:
    return asyncio.get_running_loop().time()


@dataclass(slots=True)
class Unhurried:
    """One question, from now on, which the server may hold back for `seconds`."""

    seconds: float
    began: float = field(default_factory=_now)

    async def wait(self) -> None:
        """It has brought nothing new: wait until the next one may be asked."""
        await asyncio.sleep(max(0.0, self.began + min(LEAST_SECONDS, self.seconds) - _now()))
