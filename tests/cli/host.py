"""A host played over a real Unix socket: it answers operations and streams as a test tells it, and notes the calls."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from shared_schema.errors import DumbwaiterError, NotFound

Params = dict[str, Any]


class Raw(bytes):
    """An answer that is sent as it is, JSON or not."""


Entries = Iterable[Params] | Iterable[Params | Raw]


class PlayedHost:
    """`operations` and `streams` by name: a value, an error to raise, or a function of the parameters."""

    def __init__(self) -> None:
        self.operations: dict[str, Any] = {}
        self.streams: dict[str, Entries | Callable[[Params], Entries]] = {}
        self.calls: list[tuple[str, Params]] = []

    def params_of(self, name: str) -> Params:
        """The parameters of the last call of that name."""
        return next(params for called, params in reversed(self.calls) if called == name)

    def answer(self, name: str, params: Params) -> Any:
        self.calls.append((name, params))
        if name not in self.operations:
            raise NotFound(f"there is no operation '{name}'")
        answer = self.operations[name]
        answer = answer(params) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def entries(self, name: str, params: Params) -> Entries:
        self.calls.append((name, params))
        stream = self.streams[name]
        return stream(params) if callable(stream) else stream


def error_object(error: DumbwaiterError) -> Params:
    return {"type": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    played: PlayedHost

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left early is no news here."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        params = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind, name = self.path.removeprefix("/v1/").split("/")
        if kind == "streams":
            self._stream(name, params)
            return
        try:
            result = self.server.played.answer(name, params)
        except DumbwaiterError as error:
            self._send(400, json.dumps({"error": error_object(error)}).encode())
            return
        self._send(200, result if isinstance(result, Raw) else json.dumps({"result": result}).encode())

    def _stream(self, name: str, params: Params) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            for entry in self.server.played.entries(name, params):
                self.wfile.write(entry if isinstance(entry, Raw) else json.dumps(entry).encode() + b"\n")
                self.wfile.flush()
        except DumbwaiterError as error:
            self.wfile.write(json.dumps({"type": "error", "error": error_object(error)}).encode() + b"\n")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


@contextmanager
def playing(path: Path) -> Iterator[PlayedHost]:
    """A played host that listens on a socket."""
    with _Server(str(path), _Handler) as server:
        server.played = PlayedHost()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.played
        finally:
            server.shutdown()
            thread.join()
    with suppress(FileNotFoundError):
        path.unlink()
