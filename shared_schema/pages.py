"""Foreign lists that come page by page, where each page names the next one by a cursor.

Invariant: however a server answers, no list is followed for ever. There are at most so many pages, and a cursor that
was followed before ends the list: what is behind it was read.
"""

from __future__ import annotations


class PageCursors:
    """The cursors of one list; at most `most` pages of it are read, 1 or more."""

    def __init__(self, most: int) -> None:
        self._left = most - 1  # the first page has no cursor
        self._followed: set[str] = set()

    def next(self, cursor: object) -> str | None:
        """Returns the cursor of the page to read next; None: the list ends. `cursor` is what the last page says."""
        if not isinstance(cursor, str) or not cursor or cursor in self._followed or self._left <= 0:
            return None
        self._left -= 1
        self._followed.add(cursor)
        return cursor
