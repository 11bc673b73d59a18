"""A real Synapse with SQLite, and people with accounts on it, who talk plain HTTP and not the library under test."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.wait import until, until_sync

_MUCH = "{per_second: 10000, burst_count: 10000}"
_CONFIGURATION = f"""
server_name: matrix.test
report_stats: false
listeners:
  - port: PORT
    type: http
    bind_addresses: ["127.0.0.1"]
    resources: [{{names: [client], compress: false}}]
database: {{name: sqlite3, args: {{database: FOLDER/homeserver.db}}}}
media_store_path: FOLDER/media
signing_key_path: FOLDER/signing.key
log_config: FOLDER/log.yaml
registration_shared_secret: shared
macaroon_secret_key: macaroon
form_secret: form
trusted_key_servers: []
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4
presence: {{enabled: false}}
rc_message: {_MUCH}
rc_registration: {_MUCH}
rc_login: {{address: {_MUCH}, account: {_MUCH}, failed_attempts: {_MUCH}}}
rc_joins: {{local: {_MUCH}, remote: {_MUCH}}}
rc_joins_per_room: {_MUCH}
rc_invites: {{per_room: {_MUCH}, per_user: {_MUCH}, per_issuer: {_MUCH}}}
rc_room_creation: {_MUCH}
"""
_LOG = """
version: 1
formatters: {plain: {format: "%(asctime)s %(levelname)s %(name)s %(message)s"}}
handlers: {file: {class: logging.FileHandler, formatter: plain, filename: FOLDER/homeserver.log}}
root: {level: WARNING, handlers: [file]}
"""


def missing_synapse() -> str | None:
    """Why there can be no Synapse here; None when there can."""
    return None if find_spec("synapse") is not None else "matrix-synapse is not installed"


@dataclass
class Person:
    """An account. Everything is asked in plain HTTP."""

    url: str
    user_id: str
    token: str
    since: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    def call(self, method: str, path: str, body: object = None, **query: str) -> Any:
        """One request to the client API. Fails on every answer that is no success."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        url = f"{self.url}/_matrix/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        request = urllib.request.Request(url, data, method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        if not isinstance(body, bytes):
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from None
        return json.loads(content) if answer.headers.get_content_type() == "application/json" else content

    def room(self, *others: str, is_direct: bool = False, **more: Any) -> str:
        """Make a room, and invite others."""
        content = {"invite": list(others), "is_direct": is_direct, "preset": "private_chat", **more}
        return str(self.call("POST", "client/v3/createRoom", content)["room_id"])

    def send(self, room_id: str, content: dict[str, Any], kind: str = "m.room.message", txn: str | None = None) -> str:
        """Send an event; its id."""
        path = f"client/v3/rooms/{_quoted(room_id)}/send/{kind}/{txn or secrets.token_hex(8)}"
        return str(self.call("PUT", path, content)["event_id"])

    def say(self, room_id: str, text: str, **more: Any) -> str:
        """Write a text."""
        return self.send(room_id, {"msgtype": "m.text", "body": text, **more})

    def redact(self, room_id: str, event_id: str) -> None:
        """Take an event back."""
        self.call("PUT", f"client/v3/rooms/{_quoted(room_id)}/redact/{_quoted(event_id)}/{secrets.token_hex(8)}", {})

    def state(self, room_id: str, kind: str, content: dict[str, Any]) -> None:
        """Set a room's state."""
        self.call("PUT", f"client/v3/rooms/{_quoted(room_id)}/state/{kind}", content)

    def join(self, room_id: str) -> None:
        """Enter a room."""
        self.call("POST", f"client/v3/join/{_quoted(room_id)}", {})

    def upload(self, data: bytes, name: str) -> str:
        """Put a file on the server."""
        return str(self.call("POST", "media/v3/upload", data, filename=name)["content_uri"])

    def download(self, address: str) -> bytes:
        """What lies at an address."""
        found = self.call("GET", f"client/v1/media/download/{address.removeprefix('mxc://')}")
        return found if isinstance(found, bytes) else json.dumps(found).encode()

    def timeline(self, room_id: str) -> list[dict[str, Any]]:
        """The events of a room, oldest first."""
        answer = self.call("GET", f"client/v3/rooms/{_quoted(room_id)}/messages", dir="b", limit="200")
        return list(reversed(answer["chunk"]))

    def heard(self, room_id: str, by: str) -> list[dict[str, Any]]:
        """What somebody has said in a room, but for edits."""
        return [
            event
            for event in self.timeline(room_id)
            if event["type"] == "m.room.message"
            and event["sender"] == by
            and event["content"].get("m.relates_to", {}).get("rel_type") != "m.replace"
        ]

    def members(self, room_id: str) -> set[str]:
        """Who is in a room."""
        return set(self.call("GET", f"client/v3/rooms/{_quoted(room_id)}/joined_members")["joined"])

    async def got(self, room_id: str, by: str, count: int) -> list[dict[str, Any]]:
        """Wait until somebody has said so much in a room."""
        await until(lambda: len(self.heard(room_id, by)) >= count, f"{count} messages of {by}", 60)
        return self.heard(room_id, by)


@dataclass
class Synapse:
    """A running Synapse. It can be stopped and started again; what it knows stays."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "synapse.app.homeserver", "-c", str(self.folder / "homeserver.yaml")]
        with (self.folder / "output.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        until_sync(self._is_up, "synapse answers", 180)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(30)
            self.process = None

    def person(self, name: str) -> Person:
        """A new account, called `name` and a number of its own."""
        user = f"{name}-{secrets.token_hex(4)}"
        body = {"username": user, "password": "a password", "auth": {"type": "m.login.dummy"}}
        answer = Person(self.url, "", "").call("POST", "client/v3/register", body)
        person = Person(self.url, answer["user_id"], answer["access_token"])
        person.call("PUT", f"client/v3/profile/{_quoted(person.user_id)}/displayname", {"displayname": name})
        return person

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "output.log").read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def synapse() -> Iterator[Synapse]:
    """A Synapse until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="synapse-"))
    port = free_port()
    # A key of its own saves the call that makes one, which takes as long as a start.
    key = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    (folder / "signing.key").write_text(f"ed25519 a_test {key}\n")
    (folder / "log.yaml").write_text(_LOG.replace("FOLDER", str(folder)))
    configuration = _CONFIGURATION.replace("FOLDER", str(folder)).replace("PORT", str(port))
    (folder / "homeserver.yaml").write_text(configuration)
    server = Synapse(folder, port)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")
