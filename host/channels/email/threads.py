"""Which conversation a mail belongs to, and what that is called: kept by message ids, in a bounded number of places.

`References` should name the first mail of a conversation, but some programs leave it out, or only say what they reply
to. So the thread of every mail, ours included, is kept under its message id; the first mail's id is the thread's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from host.channels.protocol import ChannelState
from shared_schema import json_text
from shared_schema.dataclass import dataclass

PLACES = 4_096
_LOOKED_UP = 20


@dataclass(frozen=True, slots=True)
class Thread:
    """The first mail of a conversation, and its subject."""

    root: str
    subject: str


class Threads:
    """The threads of the last mails."""

    def __init__(self, state: ChannelState) -> None:
        self._state = state

    async def find(self, message_id: str) -> Thread | None:
        """The thread of a mail that was here not too long ago."""
        text = await self._state.get(_place(message_id))
        content = None if text is None else json_text.parse(text)
        if content is None or content["id"] != message_id:
            return None
        return Thread(content["root"], content["subject"])

    async def of(self, message_id: str, referred: Sequence[str], subject: str) -> Thread:
        """The thread of a mail that came in: that of the latest mail it refers to which is known, or what it says."""
        for each in reversed(referred[-_LOOKED_UP:]):
            if (thread := await self.find(each)) is not None:
                return thread
        return Thread(referred[0] if referred else message_id, subject)

    async def keep(self, message_id: str, thread: Thread) -> None:
        """Remember the thread of a mail."""
        content = {"id": message_id, "root": thread.root, "subject": thread.subject}
        await self._state.set(_place(message_id), json.dumps(content))


def _place(message_id: str) -> str:
    return f"thread-{int.from_bytes(hashlib.sha256(message_id.encode()).digest()[:4]) % PLACES}"
