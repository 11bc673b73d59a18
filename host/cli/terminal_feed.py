"""What a terminal should show, as the host tells it, in a thread of its own. A host that goes away is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from typing import Any

from host.api.client import HostClient, HostGone, NoHost
from host.cli.plain import one_line
from shared_schema.errors import DumbwaiterError

_AGAIN_SECONDS = 1.0
_SILENCE_SECONDS = None  # a conversation at rest says nothing; a host that dies closes the connection


class Feed:
    """Follows one conversation until it is closed. `tell` gets every entry, in this thread.

    Besides what `terminal.follow` sends: `gone` (what, hint) when the host went away, `back` when it answers again, and
    `over` (what) when there is nothing more to follow.
    """

    def __init__(self, client: HostClient, where: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
        self._client = client
        self._where = where
        self._tell = tell
        self._closed = threading.Event()
        self._position: int | None = None
        self._thread = threading.Thread(target=self._run, name="terminal feed", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """Tell nothing more. The thread ends with its connection, or with the process."""
        self._closed.set()

    def _run(self) -> None:
        is_gone = False
        while not self._closed.is_set():
            try:
                with closing(self._follow()) as entries:
                    for entry in entries:
                        if self._closed.is_set():
                            return
                        if is_gone:
                            is_gone = False
                            self._say({"type": "back"})
                        self._position = entry.get("position", self._position)
                        self._say(entry)
                trouble: DumbwaiterError = self._client.gone_in_mid_answer("the host has ended the conversation")
            except (NoHost, HostGone) as error:
                trouble = error
            except DumbwaiterError as error:
                self._say({"type": "over", "what": one_line(error)})
                return
            if not is_gone:
                is_gone = True
                self._say({"type": "gone", "what": one_line(trouble)})
            self._closed.wait(_AGAIN_SECONDS)

    def _follow(self) -> Generator[dict[str, Any], None, None]:
        after = {} if self._position is None else {"after": self._position}
        return self._client.stream("terminal.follow", {**self._where, **after}, seconds=_SILENCE_SECONDS)

    def _say(self, entry: dict[str, Any]) -> None:
        if not self._closed.is_set():
            with suppress(RuntimeError):  # the loop that listens has ended meanwhile
                self._tell(entry)
