"""The client side of the running host's API: HTTP over the Unix socket `<data>/host.sock`. Standard library only.

    POST /v1/operations/<name>   a JSON object → 200 {"result": …}, or 4xx/5xx {"error": {type, what, where, hint}}
    POST /v1/streams/<name>      a JSON object → 200, one JSON object per line until the host closes the connection;
                                 {"type": "error", "error": {…}} as the last line when it breaks

An error of the host's is raised here as the same class with the same sentence, so that a command cannot tell whether
an operation ran in this process or in the host.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from host.start_line import start_line
from shared_schema import errors
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.system_errors import words_of

SOCKET_PATH_BYTES = 107
"""The longest path of a Unix socket on Linux: sun_path has 108 bytes, the last of them zero (unix(7))."""

CALL_SECONDS = 120.0
_LINE_BYTES = 64 * 1024**2
_AGAIN_SECONDS = 0.05
_NOBODY_LISTENS = (FileNotFoundError, ConnectionRefusedError, NotADirectoryError)


class NoHost(DumbwaiterError):
    """No host listens on the socket of this data folder."""


class HostGone(DumbwaiterError):
    """The host stopped answering in the middle of an answer; whether the operation was done is not known."""


class HostClient:
    """Calls the host that listens on a socket. Every call is a connection of its own; nothing is kept open."""

    def __init__(self, path: Path, *, seconds: float = CALL_SECONDS) -> None:
        self._path = path
        self._seconds = seconds

    def call(self, name: str, params: dict[str, Any]) -> Any:
        """The result of an operation, a JSON value.

        Raises `NoHost` (the operation was surely not done), `HostGone`, or what the operation raised.
        """
        connection = self._connect(self._seconds)
        try:
            response = _post(connection, f"/v1/operations/{name}", params)
            body = response.read()
        except (http.client.HTTPException, OSError) as error:
            raise self._gone(error, self._seconds) from error
        finally:
            connection.close()
        answer = self._object(body)
        if response.status != 200:
            raise error_from(answer.get("error"))
        if "result" not in answer:
            raise self._not_understood()
        return answer["result"]

    def stream(
        self, name: str, params: dict[str, Any], *, seconds: float | None = None
    ) -> Generator[dict[str, Any], None, None]:
        """The objects of a stream as they come; `seconds` is the longest silence, None for no limit.

        Close the generator to leave early. Raises what `call` raises.
        """
        connection = self._connect(seconds)
        try:
            response = _post(connection, f"/v1/streams/{name}", params)
            if response.status != 200:
                raise error_from(self._object(response.read()).get("error"))
            while line := response.readline(_LINE_BYTES):
                if not line.strip():
                    continue
                entry = self._object(line)
                if entry.get("type") == "error":
                    raise error_from(entry.get("error"))
                yield entry
        except (http.client.HTTPException, OSError) as error:
            raise self._gone(error, seconds) from error
        finally:
            connection.close()

    def _connect(self, seconds: float | None) -> _UnixConnection:
        connection = _UnixConnection(socket_path(self._path), seconds)
        try:
            connection.connect()
        except _NOBODY_LISTENS as error:
            raise _no_host(self._path) from error
        except PermissionError as error:
            raise DumbwaiterError(
                "the running host belongs to another user", where=self._path, hint="run this command as that user"
            ) from error
        except OSError as error:
            raise HostGone(f"the host cannot be reached: {words_of(error)}", where=self._path) from error
        return connection

    def listens(self) -> bool:
        """Whether a host listens there now."""
        try:
            self._connect(self._seconds).close()
        except NoHost:
            return False
        except DumbwaiterError:
            return True  # one that does not let this user in, or is too busy
        return True

    def gone_in_mid_answer(self, what: str = "the host went away before it had answered") -> HostGone:
        """What is raised when the host ends before it has said all."""
        return HostGone(
            what,
            where=self._path,
            hint=f"{start_line(self._path.parent)} starts it again; what was accepted is kept",
        )

    def _gone(self, error: Exception, seconds: float | None) -> HostGone:
        if isinstance(error, TimeoutError):
            return HostGone(
                f"the host did not answer within {seconds:g} seconds",
                where=self._path,
                hint="look at what it prints; `dumbwaiter status` shows whether it is well",
            )
        return self.gone_in_mid_answer()

    def _object(self, body: bytes) -> dict[str, Any]:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._not_understood() from error
        if not isinstance(value, dict):
            raise self._not_understood()
        return value

    def _not_understood(self) -> HostGone:
        return HostGone(
            "the host's answer cannot be understood",
            where=self._path,
            hint="check that the host and this command are of the same version",
        )


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a Unix socket."""

    def __init__(self, path: str, seconds: float | None) -> None:
        super().__init__("dumbwaiter", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        deadline = time.monotonic() + (CALL_SECONDS if self.timeout is None else self.timeout)
        while True:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self.sock.settimeout(self.timeout)
                self.sock.connect(self._path)
            except BlockingIOError:
                # The queue of the socket is full (EAGAIN): unlike TCP, a Unix socket does not wait for room by itself.
                self.close()
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_AGAIN_SECONDS)
            except OSError:
                self.close()
                raise
            else:
                return


def socket_path(path: Path) -> str:
    """`path`, if a Unix socket can be there. Raises `PathTooLong`."""
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        raise PathTooLong(
            f"the path of the host's socket is longer than {SOCKET_PATH_BYTES} bytes, more than the system allows",
            where=path,
            hint="choose a data folder with a shorter path (--data)",
        )
    return str(path)


class PathTooLong(NoHost, InvalidValue):
    """No host can listen there: the path is too long for a Unix socket."""


_KINDS = (
    errors.InvalidValue,
    errors.NotFound,
    errors.Conflict,
    errors.FileTrouble,
    errors.NewerSchema,
    errors.FileBusy,
    errors.FileDamaged,
)
_CLASSES: dict[str, type[DumbwaiterError]] = {kind.__name__: kind for kind in _KINDS}


def error_from(value: Any) -> DumbwaiterError:
    """The error that the host sent as `{"type", "what", "where", "hint"}`; an unknown type is the base class."""
    if not isinstance(value, dict) or not isinstance(value.get("what"), str):
        return DumbwaiterError("the host failed and did not say why", hint="look at what it printed")
    kind = _CLASSES.get(str(value.get("type")), DumbwaiterError)
    if value.get("type") == "BadSetting":
        kind = InvalidValue  # the same exit status, without importing the settings
    where, hint = value.get("where"), value.get("hint")
    return kind(
        value["what"],
        where=where if isinstance(where, str) else None,
        hint=hint if isinstance(hint, str) else None,
    )


def _no_host(path: Path) -> NoHost:
    data = path.parent
    return NoHost(f"no host is running for {data}", hint=f"start it with {start_line(data)}")


def _post(connection: http.client.HTTPConnection, target: str, params: dict[str, Any]) -> http.client.HTTPResponse:
    body = json.dumps(params).encode()
    connection.request("POST", target, body, {"Content-Type": "application/json", "Connection": "close"})
    return connection.getresponse()
