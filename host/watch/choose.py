"""Which source of hints a host takes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Literal

from host.watch.protocol import Watcher


def choose(
    notify: Literal["auto", "watchfiles", "off"], hint: Callable[[str], None], is_busy: Callable[[], bool]
) -> Watcher | None:
    """What the setting `notify` asks for: `auto` is inotify on Linux and watchfiles elsewhere; None for `off`.

    `hint` gets the id of a session whose agent wrote; `is_busy` says whether a person waits for an answer.
    """
    if notify == "off":
        return None
    if notify == "auto" and sys.platform == "linux":
        from host.watch.inotify import InotifyWatcher

        return InotifyWatcher(hint)
    from host.watch.watchfiles_watcher import WatchfilesWatcher

    return WatchfilesWatcher(hint, is_busy)
