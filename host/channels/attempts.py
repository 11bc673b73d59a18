"""What a channel has begun to send, noted before it is sent: who finds its note afterwards looks whether it arrived.

For platforms that take no key of ours. Bounded: of each of `PLACES` the `KEPT` that were begun last are known, so a
message that rests while its platform is away is still known when many others have gone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json

from host.channels.protocol import ChannelState
from shared_schema import json_text

PLACES = 256
KEPT = 16


class Attempts:
    """The attempts of one channel. Its messages are known by marks, which are texts of any length."""

    def __init__(self, state: ChannelState) -> None:
        self._state = state
        self._turn = asyncio.Lock()  # two messages may have one place

    async def begin(self, mark: str, note: str = "") -> str | None:
        """A message is about to be sent: what was noted when that was begun first; None: it was not begun before."""
        place = f"attempts-{int.from_bytes(hashlib.sha256(mark.encode()).digest()[:4]) % PLACES}"
        async with self._turn:
            text = await self._state.get(place)
            known: dict[str, str] = {} if text is None else json_text.parse(text)
            before = known.pop(mark, None)
            known[mark] = note if before is None else before
            await self._state.set(place, json.dumps(dict(list(known.items())[-KEPT:])))
            return before
