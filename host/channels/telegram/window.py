"""Which updates are in work and which are done, and up to where they may be confirmed. Pure.

Telegram has one number for that: `getUpdates(offset=n)` confirms everything below n, and gives what comes from n on,
at most 100, as often as it is asked. So updates may be finished in any order, and are confirmed up to the first that is
not; those behind it come again and are known here.
"""

from __future__ import annotations

from collections.abc import Iterable

LIMIT = 100
"""The most updates that one call gives."""


class Window:
    """The updates that are not confirmed yet."""

    def __init__(self) -> None:
        self._in_work: set[int] = set()
        self._failed: set[int] = set()
        self._done: set[int] = set()

    def new(self, update_ids: Iterable[int]) -> list[int]:
        """Those that are neither in work nor done, in order; they are in work from now on."""
        fresh = sorted(set(update_ids) - self._in_work - self._done)
        self._in_work.update(fresh)
        self._failed.difference_update(fresh)
        return fresh

    def done(self, update_id: int) -> None:
        """It is on the disk, or nothing that the host can use."""
        self._in_work.discard(update_id)
        self._done.add(update_id)

    def failed(self, update_id: int) -> None:
        """It could not be kept: it shall come again."""
        self._in_work.discard(update_id)
        self._failed.add(update_id)

    @property
    def is_open(self) -> bool:
        """Whether some are not done: then a call does not wait for new ones, it gives those again."""
        return bool(self._in_work or self._failed)

    @property
    def offset(self) -> int | None:
        """What to ask for next: everything below it is done. None: from the first that is not confirmed.

        With nothing to confirm there is no offset: after a quiet week Telegram counts from anywhere, and an old offset
        would hide what comes then.
        """
        if self.is_open:
            return min(self._in_work | self._failed)
        return max(self._done) + 1 if self._done else None

    def confirmed(self, offset: int | None) -> None:
        """A call with that offset has come back: what is below it never comes again."""
        if offset is not None:
            self._done = {number for number in self._done if number >= offset}
