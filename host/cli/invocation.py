"""One run of the command line: which data folder it is about, and how it reaches the operations."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from host.api.client import HostClient, NoHost
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict
from shared_schema.layout import DataLayout

if TYPE_CHECKING:
    from host.settings import Settings

_ATTEMPTS = 15
"""Of about 0.3 s each: as long as a host may need to start."""

_STEP_SECONDS = 0.1

_NUMBER = re.compile(r"[0-9]{1,4}")
"""What can be a number of a list; the short forms of ids are longer."""

CallOnce = Callable[["Settings", str, dict[str, Any]], Any]


def call_locally(settings: Settings, name: str, params: dict[str, Any]) -> Any:
    """Run an operation in this process, under `host.lock`. Raises `DumbwaiterError`."""
    from host.local import call_once

    return call_once(settings, name, params)


@dataclass(slots=True)
class Invocation:
    """What the commands of one run share. `locally` runs an operation when no host listens; `starting_seconds` is how
    long a conversation waits for a host that is just starting."""

    given: Path | None = None
    locally: CallOnce = call_locally
    starting_seconds: float = 20.0

    @property
    def data(self) -> Path:
        """The data folder, absolute: --data, DUMBWAITER_DATA, or ./data."""
        return (self.given or Path("data")).absolute()

    @property
    def layout(self) -> DataLayout:
        """The paths of the data folder."""
        return DataLayout(self.data)

    def settings(self, **options: Any) -> Settings:
        """The settings, with what the command line says first. Raises `BadSetting`."""
        from host.settings import load

        return load({"data": self.data, **options})

    def client(self) -> HostClient:
        """A client of the host, whether one runs or not."""
        return HostClient(self.layout.socket)

    def started_client(self) -> HostClient:
        """The same; waits for a host that is just starting, as one does that was started in the other terminal.

        Raises `NoHost` for one that takes longer than usual.
        """
        from host.lock import is_held  # only here is it asked for

        client = self.client()
        deadline = time.monotonic() + self.starting_seconds
        while not client.listens() and is_held(self.layout):
            if time.monotonic() >= deadline:
                raise NoHost(
                    f"the host of {self.data} is still starting",
                    hint="type this again once it says that it is ready; `dumbwaiter doctor` checks what it needs",
                )
            time.sleep(_STEP_SECONDS)
        return client

    def call(self, operation: str, /, **params: Any) -> Any:
        """The result of an operation, by the running host or, when there is none, in this process.

        Parameters that are None are not given. Raises `DumbwaiterError`.
        """
        given = self._given(params)
        for attempt in range(_ATTEMPTS):
            try:
                return self.client().call(operation, given)
            except NoHost:
                pass
            try:
                return self.locally(self.settings(), operation, given)
            except Conflict as error:
                if not _is_in_use(error) or attempt == _ATTEMPTS - 1:
                    raise  # else: a host that is just starting, or another command, which soon answers or is done
        raise AssertionError("the last attempt returns or raises")

    @property
    def terminal(self) -> str:
        """This terminal, as far as lists are concerned: the session of processes that a login or a window began."""
        return str(os.getsid(0))

    def _given(self, params: dict[str, Any]) -> dict[str, Any]:
        """The parameters that are given; a session named by its number in this terminal's list is named by its id."""
        given = {key: value for key, value in params.items() if value is not None}
        if _NUMBER.fullmatch(str(given.get("session", ""))):
            found = self.call("session.numbered", terminal=self.terminal, number=given["session"])["id"]
            given["session"] = found or given["session"]
        return given

    def stream(self, name: str, /, **params: Any) -> Generator[dict[str, Any], None, None]:
        """A stream of the running host. Raises `NoHost` when there is none."""
        return self.started_client().stream(name, self._given(params))

    def stream_to_its_end(self, name: str, /, **params: Any) -> Iterator[dict[str, Any]]:
        """A stream that ends by itself, of the running host or, when there is none, made in this process."""
        given = self._given(params)
        try:
            yield from self.started_client().stream(name, given)
        except NoHost:
            yield from stream_locally(self.settings(), name, given)


def stream_locally(settings: Settings, name: str, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Run a stream that ends by itself in this process, under `host.lock`. Raises `DumbwaiterError`."""
    from host.local import stream_once

    return stream_once(settings, name, params)


def _is_in_use(error: Conflict) -> bool:
    from host.lock import FolderInUse

    return isinstance(error, FolderInUse)
