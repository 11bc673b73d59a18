"""What servers of platforms say on connections of ours: frames of Slack's socket and its histories, IMAP, reactions.

The libraries are played at their seams. What comes over these connections is as hostile as what comes by a webhook: a
proxy says it, or a server of another's, or it has a person's words in a field that was meant for something else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
from hypothesis import strategies as st

from host.channels.email.imap import Mailbox
from host.channels.github.events import GitHubAccount
from host.channels.github.reactions import Reactions
from host.channels.protocol import ChannelRefused, ChannelUnavailable
from host.channels.slack.catch_up import messages_since
from host.channels.slack.events import SlackBot, SlackReader
from host.channels.slack.receiver import SlackReceiver
from host.channels.slack.socket import Socket
from host.routing.event import Incoming, Receipt
from shared_schema.errors import DumbwaiterError
from tests.fuzz.target import Drive, Target, of_bytes
from tests.fuzz.values import ANY_TEXT, JSON_VALUES, nearly_right

_SAID = {"type": "message", "user": "U1", "text": "hello", "ts": "1.2", "channel": "C1"}


# --- Slack's socket ---


class _PlayedSocket:
    """Gives these frames, and then ends; `sent` is what was sent to it."""

    def __init__(self, *frames: tuple[aiohttp.WSMsgType, Any]) -> None:
        self._frames = [*frames, (aiohttp.WSMsgType.CLOSED, None)]
        self.sent: list[str] = []

    async def receive(self, timeout: float) -> aiohttp.WSMessage:
        kind, data = self._frames.pop(0)
        return aiohttp.WSMessage(kind, data, None)

    async def send_str(self, text: str) -> None:
        self.sent.append(text)

    async def pong(self, data: bytes) -> None:
        """The answer to a ping."""


def _envelopes() -> list[bytes]:
    events: list[dict[str, Any]] = [
        _SAID,
        {"type": "tokens_revoked"},
        {"type": ["tokens_revoked"]},
        {"type": {"type": "message"}},
        {"type": "member_joined_channel", "user": "UBOT1", "channel": {"id": "C1"}},
    ]
    bodies: list[Any] = [{"type": "events_api", "envelope_id": "e1", "payload": {"event": event}} for event in events]
    bodies += [
        {"type": "interactive", "envelope_id": "e2", "payload": {"type": "block_actions", "actions": [{}]}},
        {"type": "slash_commands", "envelope_id": {"a": 1}, "payload": {"command": "/dw", "text": "new"}},
        {"type": ["events_api"], "envelope_id": "e3", "payload": [1]},
        [1, 2],
        "hello",
    ]  # fmt: skip
    return [json.dumps(body).encode() for body in bodies] + [b"[" * 50_000, b'{"payload":' * 3_000, b"\xff"]


@contextmanager
def _socket(folder: Path) -> Iterator[Drive]:
    async def run(body: bytes) -> None:
        frame = (aiohttp.WSMsgType.TEXT, body.decode("utf-8", "replace"))
        good = (aiohttp.WSMsgType.TEXT, json.dumps({"type": "events_api", "payload": {"event": _SAID | {"ts": "9.9"}}}))
        played = _PlayedSocket(frame, (aiohttp.WSMsgType.PING, b"x"), good)
        socket = Socket(played, lambda: None)  # type: ignore[arg-type]
        heard: list[Incoming] = []

        async def ingest(incoming: Incoming) -> Receipt:
            heard.append(incoming)
            return Receipt(())

        async def nameless(user_id: str) -> str | None:
            return None

        receiver = SlackReceiver(nameless, lambda error: None)
        receiver.start(ingest, SlackReader("slack", SlackBot("UBOT1", "BBOT1")))
        try:
            while True:
                receiver.received(socket, await socket.receive())
        except ChannelUnavailable:
            pass
        while receiver._tasks:
            await asyncio.sleep(0)
        # What cannot be read is acknowledged, or it would come again and again; and the good one is heard.
        assert not receiver.missed.is_set()
        assert any(getattr(each, "platform_message_id", None) == "9.9" for each in heard)

    yield lambda body: asyncio.run(run(body))


# --- Slack's histories ---

_MESSAGES = nearly_right(
    JSON_VALUES,
    ts=("1.2", "9" * 400, "nan", "inf", "-1e999", "1_0"),
    latest_reply=("3.4", "nan", "inf"),
    text=ANY_TEXT,
    user=("U1", "UBOT1"),
)
_ANSWERS = nearly_right(
    JSON_VALUES,
    channels=st.lists(nearly_right(JSON_VALUES, id=("C1", "D1"), is_im=st.booleans()) | JSON_VALUES, max_size=3),
    messages=st.lists(_MESSAGES | JSON_VALUES, max_size=4),
    response_metadata=st.fixed_dictionaries({"next_cursor": st.sampled_from(("", "again")) | JSON_VALUES}),
)


@dataclass
class _PlayedSlack:
    """Answers each call with the next of these, and with nothing when they are used up."""

    answers: list[dict[str, Any]] = field(default_factory=list)

    async def call(self, method: str, **arguments: object) -> dict[str, Any]:
        assert all(isinstance(each, str | int | float | None) for each in arguments.values())
        return self.answers.pop(0) if self.answers else {}


@contextmanager
def _histories(folder: Path) -> Iterator[Drive]:
    reader = SlackReader("slack", SlackBot("UBOT1", "BBOT1"))

    async def run(answers: Sequence[dict[str, Any]]) -> None:
        refused: DumbwaiterError | None = None
        async for message in messages_since(_PlayedSlack(list(answers)), 1.0):  # type: ignore[arg-type]
            try:
                reader.event(message)
            except DumbwaiterError as error:
                refused = error
        if refused is not None:
            raise refused

    yield lambda answers: asyncio.run(run(answers))


# --- a mailbox ---


def _lines() -> list[bytes]:
    return [
        b"* 3 EXISTS\n* OK [UIDVALIDITY 17] UIDs valid\n* OK [UIDNEXT 4] next",
        b"* OK [UIDVALIDITY " + b"9" * 50 + b"]\n[UIDNEXT -1]\n[UIDNEXT x]",
        b"1 2 3 99999999999999999999 -1 x\nSEARCH completed",
        b"1 FETCH (UID 1 RFC822.SIZE 12 BODY[]<0> {5}\n(body)hello\n)\nFETCH completed",
        b"1 FETCH (RFC822.SIZE " + b"9" * 5_000 + b" BODY[] NIL)\ndone",
        b"(body)\n(body)x",
        b"",
    ]


class _PlayedImap:
    """A client of the library's, whose server says these lines to all that is asked."""

    def __init__(self, data: bytes) -> None:
        # The library gives the literal of an answer as a bytearray, and its lines as bytes.
        lines = [
            bytearray(line.removeprefix(b"(body)")) if line.startswith(b"(body)") else line
            for line in data.split(b"\n")
        ]
        self._answer = SimpleNamespace(result="OK", lines=lines)
        self.protocol = SimpleNamespace(conn_lost_cb=None)

    async def select(self, folder: str) -> SimpleNamespace:
        return self._answer

    async def uid(self, *words: str) -> SimpleNamespace:
        return self._answer

    async def uid_search(self, *words: str, charset: str | None = None) -> SimpleNamespace:
        return self._answer


@contextmanager
def _imap(folder: Path) -> Iterator[Drive]:
    async def run(data: bytes) -> None:
        box = Mailbox(_PlayedImap(data), "mail.test:993 (IMAP)")  # type: ignore[arg-type]
        await box._select("INBOX")
        assert 0 <= box.validity < 10**12
        assert 0 <= box.next_uid <= 10**12
        assert all(0 <= uid < 10**11 for uid in await box.search("ALL"))
        fetched = await box.fetch(1, 100)
        assert fetched is None or (len(fetched.data) <= 100 and fetched.size < 10**12)

    yield lambda data: asyncio.run(run(data))


# --- reactions on GitHub ---

_PUT = nearly_right(
    JSON_VALUES,
    id=st.integers(-1, 2**70),
    user=nearly_right(JSON_VALUES, login=("ann", "dw-bot", "ci[bot]"), type=("User", "Bot")),
    content=("+1", "heart", "x" * 500),
    created_at=("2027-01-01T00:00:00Z", "", "zzz", "x" * 50),
)
_POST = nearly_right(
    JSON_VALUES,
    id=st.integers(1, 9),
    number=st.integers(1, 9),
    issue_url=("https://x/issues/7",),
    pull_request_url=("https://x/pulls/7",),
    user=st.just({"login": "ann", "type": "User"}),
    created_at=("2026-01-01T00:00:00Z",),
    body=ANY_TEXT,
    reactions=nearly_right(JSON_VALUES, **{"+1": st.integers(-1, 2**70), "heart": st.integers(0, 2)}),
)


_ANN = {"login": "ann", "type": "User"}
_HEARTED = {"id": 1, "issue_url": "https://x/issues/7", "user": _ANN, "created_at": "2026", "reactions": {"heart": 1}}
_HUGE = {"id": 2**63, "user": _ANN, "content": "heart", "created_at": "2027"}


class _Memory(dict[str, str]):
    """The `ChannelState` of a channel."""

    async def get(self, key: str) -> str | None:  # type: ignore[override]
        return dict.get(self, key)

    async def set(self, key: str, value: str) -> None:
        value.encode()
        self[key] = value


@dataclass
class _PlayedGitHub:
    """Has these messages in each list, and these reactions on each of them."""

    posts: list[Any]
    reactions: list[Any]

    async def newest(self, path: str, **query: str) -> list[Any]:
        return self.posts

    async def pages(self, path: str) -> list[Any]:
        return self.reactions

    def forget(self) -> None:
        """Nothing is remembered."""


@contextmanager
def _reactions(folder: Path) -> Iterator[Drive]:
    async def run(value: tuple[list[Any], list[Any]]) -> None:
        state = _Memory()
        state["reactions-acme/rocket"] = json.dumps({"since": "2026-01-01T00:00:00Z", "told": []})
        me, told = GitHubAccount("github", "dw-bot"), list[Incoming]()

        async def tell(incoming: Incoming) -> None:
            told.append(incoming)

        for _ in range(2):  # the second host knows what the first has told
            reactions = Reactions("acme/rocket", state, lambda repository, message_id: f"/{message_id}")
            client: Any = _PlayedGitHub(*value)
            await reactions.begin(client, None)  # type: ignore[arg-type]
            await reactions.look(client, me, tell)
        assert all(each.address.platform_id == "acme/rocket" for each in told if hasattr(each, "address"))

    yield lambda value: asyncio.run(run(value))


CONNECTIONS = (
    of_bytes(
        "slack-socket",
        _socket,
        _envelopes,
        (),
        known=(
            b'{"type": "events_api", "payload": {"event": {"type": []}}}',
            b'{"type": "events_api", "payload": {"event": []}}',
        ),
    ),
    Target("slack-history", _histories, st.lists(_ANSWERS, max_size=5), (DumbwaiterError,)),
    of_bytes("email-imap", _imap, _lines, (ChannelUnavailable, ChannelRefused)),
    Target(
        "github-reactions",
        _reactions,
        st.tuples(st.lists(_POST | JSON_VALUES, max_size=3), st.lists(_PUT | JSON_VALUES, max_size=3)),
        (),
        known=([[_HEARTED], [_HUGE]],),
    ),
)
