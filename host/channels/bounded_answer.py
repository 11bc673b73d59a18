"""A bound for answers that an SDK reads whole, of any length."""

from __future__ import annotations

from typing import Any

MOST_BYTES = 64 * 1024**2
"""Of one answer. The first sync of an account in thousands of rooms is some megabytes."""
_CHUNK = 65_536


class AnswerTooLarge(OSError):
    """There is more of an answer than can be one."""


class BoundedAnswer:
    """In place of the `content` of an aiohttp response: read whole it has `MOST_BYTES` at most, unpacked.

    In pieces it is as before: who reads it so counts them.
    """

    def __init__(self, content: Any) -> None:
        self._content = content

    async def read(self, size: int = -1) -> bytes:
        """Raises `AnswerTooLarge`, and what aiohttp raises."""
        if size >= 0:
            return bytes(await self._content.read(size))
        parts, have = [], 0
        while part := await self._content.read(_CHUNK):
            have += len(part)
            if have > MOST_BYTES:
                raise AnswerTooLarge(f"the answer has more than {MOST_BYTES} bytes")
            parts.append(part)
        return b"".join(parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)


def bound(response: Any) -> None:
    """Bound what is read of a response of aiohttp whose body was not read yet."""
    response.content = BoundedAnswer(response.content)
