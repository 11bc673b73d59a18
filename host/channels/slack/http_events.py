"""Events that Slack posts over HTTP: signed, not older than five minutes, and answered when they are on the disk.

A request that was taken once is refused when it comes again byte for byte: what Slack repeats has a signature of its
own. Source: docs.slack.dev/authentication/verifying-requests-from-slack.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web
from slack_sdk.signature import Clock as SlackClock
from slack_sdk.signature import SignatureVerifier

from host.channels.protocol import ChannelRefused
from host.latest import Latest
from shared_schema.clock import Clock
from shared_schema.errors import InvalidValue
from shared_schema.json_text import parse
from shared_schema.system_errors import words_of

log = logging.getLogger(__name__)

PATH = "/slack/events"
MAX_BYTES = 1024**2
_REMEMBERED = 10_000

Handle = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Takes what is sent: its type as in Socket Mode (`events_api`, `interactive`, `slash_commands`), and the payload."""


class _Time(SlackClock):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.now().timestamp()


class Requests:
    """Decides which requests are Slack's, and reads them."""

    def __init__(self, secret: str, clock: Clock) -> None:
        self._verifier = SignatureVerifier(secret, _Time(clock))
        self._taken = Latest[str, None](_REMEMBERED)

    def is_from_slack(self, body: bytes, head: Mapping[str, str]) -> bool:
        """Whether it is signed, and not older than five minutes."""
        moment, signature = head.get("X-Slack-Request-Timestamp", ""), head.get("X-Slack-Signature", "")
        # The SDK raises over a time that is no number and over a body that is no text.
        if not (moment.isascii() and moment.isdigit() and len(moment) < 15 and signature.isascii()):
            return False
        try:
            return bool(self._verifier.is_valid(body.decode("utf-8"), moment, signature))
        except UnicodeDecodeError:
            return False

    def is_replay(self, head: Mapping[str, str]) -> bool:
        """Whether the same request was taken before."""
        return head.get("X-Slack-Signature", "") in self._taken

    def took(self, head: Mapping[str, str]) -> None:
        """The request was taken."""
        self._taken[head.get("X-Slack-Signature", "")] = None


def read_body(body: bytes, content_type: str) -> tuple[str, Mapping[str, Any]]:
    """The type and the payload of what was posted. Raises `InvalidValue`."""
    try:
        text = body.decode("utf-8")
        if content_type != "application/x-www-form-urlencoded":
            payload, kind = parse(text), "events_api"
        else:
            fields = dict(parse_qsl(text, max_num_fields=200))
            if "payload" in fields:
                payload, kind = parse(fields["payload"]), "interactive"
            else:
                payload, kind = fields, "slash_commands"
    except ValueError as error:
        raise InvalidValue("the request cannot be read") from error
    if not isinstance(payload, dict):
        raise InvalidValue("the request is not an object")
    return kind, payload


class EventsServer:
    """The server to which Slack posts, on one address."""

    def __init__(self, listen: str, requests: Requests, handle: Handle, heard: Callable[[], None]) -> None:
        self._host, _, port = listen.rpartition(":")
        self._port = int(port)
        self._listen = listen
        self._requests = requests
        self._handle = handle
        self._heard = heard
        self._runner: web.AppRunner | None = None
        self.refused = 0
        """Requests that were not Slack's, or came again."""

    async def start(self) -> None:
        """Listen. Raises `ChannelRefused` where the address cannot be had."""
        app = web.Application(client_max_size=MAX_BYTES)
        app.router.add_post(PATH, self._post)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        await runner.setup()
        self._runner = runner
        try:
            await web.TCPSite(runner, self._host.strip("[]"), self._port).start()
        except OSError as error:
            await self.close()
            hint = "give another `listen` in the settings of the channel"
            raise ChannelRefused(f"nothing can listen on {self._listen}: {words_of(error)}", hint=hint) from None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._runner is not None, "it has been started"
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop listening. May be called twice."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not self._requests.is_from_slack(body, request.headers) or self._requests.is_replay(request.headers):
            self.refused += 1
            log.warning("a request was refused: it is not signed by Slack, too old, or was taken before")
            return web.Response(status=401)
        self._heard()
        try:
            kind, payload = read_body(body, request.content_type)
            if payload.get("type") == "url_verification":
                return web.json_response({"challenge": str(payload.get("challenge", ""))[:1000]})
            await self._handle(kind, payload)
        except InvalidValue as error:
            log.warning("a request of Slack cannot be used", extra={"error": str(error)})
            return web.Response(status=400)
        except Exception as error:  # the boundary of one request: what is not kept is not acknowledged
            log.error("an event of Slack could not be kept: it will come again", extra={"error": type(error).__name__})
            return web.Response(status=503)
        self._requests.took(request.headers)
        return web.Response(status=200)
