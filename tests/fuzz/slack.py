"""What Slack sends to the channel `slack`: envelopes, interactions and slash commands, and requests over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host.channels.slack.events import SlackBot, SlackReader
from host.channels.slack.http_events import Requests, read_body
from host.channels.slack.text import to_mrkdwn
from host.routing.event import ChatMoved, Event
from shared_schema.clock import SystemClock
from shared_schema.errors import InvalidValue
from tests.fuzz.target import Drive, Target, of_bytes
from tests.fuzz.values import ANY_TEXT

_READER = SlackReader("slack", SlackBot("UBOT1", "BBOT1"))


def _healthy() -> list[bytes]:
    said = {"type": "message", "user": "U1", "text": "<@UBOT1> see <https://x|y> &lt;", "ts": "1.2", "channel": "C1"}
    file = {"id": "F1", "name": "../../x\u202e.txt", "size": -1, "mode": "hosted"}
    button = {"type": "button", "action_id": "a", "value": "q1/yes", "action_ts": "3.4"}
    events: list[dict[str, object]] = [
        said,
        said | {"subtype": "file_share", "files": [file] * 200, "thread_ts": "1.0", "parent_user_id": "UBOT1"},
        said | {"attachments": [{"is_share": True, "text": "<" * 3_000}], "channel_type": "im"},
        {"type": "message", "subtype": "message_changed", "channel": "C1", "message": said, "previous_message": {}},
        {"type": "message", "subtype": "message_deleted", "channel": "C1", "deleted_ts": "1.2", "previous_message": 7},
        {"type": "reaction_added", "user": "U1", "reaction": "x" * 500, "item": {"type": "message", "channel": "C1"}},
        {"type": "member_joined_channel", "user": "UBOT1", "channel": "C1"},
        {"type": "channel_id_changed", "old_channel_id": "C1", "new_channel_id": "C2"},
        {"type": "channel_left", "channel": {"id": "C1"}},
    ]
    clicked = {"type": "block_actions", "user": {"id": "U1"}, "channel": {"id": "C1"}, "message": {"ts": "1.2"}}
    bodies: list[dict[str, object]] = [{"event": event} for event in events]
    bodies += [clicked | {"actions": [button] * 1_000}, {"command": "/dw", "text": "new", "channel_id": "C1"}]
    return [json.dumps(body).encode() for body in bodies] + [b"[" * 50_000, b'{"event":' * 3_000, b"\xff\xfe"]


@contextmanager
def _payload(folder: Path) -> Iterator[Drive]:
    def drive(body: bytes) -> None:
        _, payload = read_body(body, "application/json")
        refused = None
        for read in (lambda: _READER.event(_event(payload)), lambda: _READER.interaction(payload),
                     lambda: _READER.command(payload)):  # fmt: skip
            try:
                found = read()
            except InvalidValue as error:
                refused = error
                continue
            if found is not None and not isinstance(found, ChatMoved):
                assert found.address.channel_type == "slack"
            if isinstance(found, Event):
                assert len(found.remote_files) <= 100
        if refused is not None:
            raise refused

    yield drive


def _event(payload: object) -> dict[str, object]:
    event = payload.get("event") if isinstance(payload, dict) else None
    return event if isinstance(event, dict) else {}


@contextmanager
def _form(folder: Path) -> Iterator[Drive]:
    requests = Requests("a secret", SystemClock())

    def drive(body: bytes) -> None:
        head = {"X-Slack-Request-Timestamp": body[:20].decode("latin-1"), "X-Slack-Signature": "v0=00"}
        assert not requests.is_from_slack(body, head)
        _, payload = read_body(body, "application/x-www-form-urlencoded")
        assert isinstance(payload, dict)

    yield drive


@contextmanager
def _written(folder: Path) -> Iterator[Drive]:
    def drive(text: str) -> None:
        written = to_mrkdwn(text)
        assert "<!" not in written
        assert len(written) <= 20 * len(text) + 100

    yield drive


SLACK_TARGETS = (
    of_bytes("slack-payload", _payload, _healthy, (InvalidValue,)),
    of_bytes(
        "slack-form", _form, lambda: [b"payload=%7B%22type%22%3A1%7D", b"command=%2Fdw&text=new"], (InvalidValue,)
    ),
    Target("slack-mrkdwn", _written, ANY_TEXT, (), known=("<!channel> <@U1> `<!here>` [x](<!a>)", "#" * 3_000)),
)
