"""Webhooks of GitHub: signed requests about what has just happened.

Invariant: a request is answered with 2xx only when what it tells is on the disk. A delivery that is known is not taken
again; an old one that is sent once more, as an attacker could, gets the same answer and does nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from host.channels.protocol import ChannelRefused, ChannelState, ChannelUnavailable
from shared_schema import json_text
from shared_schema.errors import DumbwaiterError
from shared_schema.system_errors import words_of

log = logging.getLogger(__name__)

MAX_BYTES = 25 * 1024**2
"""GitHub sends none that is larger."""
_PLACES = 1_024
_BODIES = 2
_BODY_SECONDS = 10.0
_LONGEST_ID = 100

Take = Callable[[str, Any], Awaitable[None]]
"""Hands over what a webhook of a kind tells."""


class WebhookReceiver:
    """A listening socket for the webhooks of one bot."""

    def __init__(self, name: str, secret: str, state: ChannelState, take: Take) -> None:
        self._name = name
        self._secret = secret.encode()
        self._state = state
        self._take = take
        self._bodies = asyncio.Semaphore(_BODIES)
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises `ChannelUnavailable` and `ChannelRefused`."""
        application = web.Application(client_max_size=MAX_BYTES)
        application.router.add_post("/", self._post)
        self._runner = web.AppRunner(application, access_log=None, auto_decompress=False, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except PermissionError as error:
            await self.close()
            raise ChannelRefused(f"webhooks cannot be taken on {host}:{port}: {words_of(error)}") from error
        except OSError as error:
            await self.close()
            raise ChannelUnavailable(
                f"webhooks cannot be taken on {host}:{port}: {words_of(error)}", hint="set another `webhook_port`"
            ) from error
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Listen no more."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        try:
            async with self._bodies, asyncio.timeout(_BODY_SECONDS):
                body = await request.read()
        except (TimeoutError, web.HTTPRequestEntityTooLarge):
            return _answer(413, "the body is too large, or too slow")
        given = request.headers.get("X-Hub-Signature-256", "")
        right = "sha256=" + hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(given.encode("utf-8", "replace"), right.encode()):
            log.warning("a webhook was refused", extra={"channel": self._name, "reason": "its signature is not right"})
            return _answer(401, "the signature is not right")
        delivery = request.headers.get("X-GitHub-Delivery", "")[:_LONGEST_ID]
        place = f"delivery-{int.from_bytes(hashlib.sha256(delivery.encode()).digest()[:4]) % _PLACES}"
        if delivery and await self._state.get(place) == delivery:
            return _answer(200, "it is known")
        try:
            payload = await asyncio.to_thread(json_text.parse, body)
        except ValueError:
            return _answer(400, "the body is no JSON; set the content type of the webhook to application/json")
        try:
            await self._take(request.headers.get("X-GitHub-Event", ""), payload)
            if delivery:
                await self._state.set(place, delivery)
        except DumbwaiterError as error:
            log.error("a webhook could not be kept", extra={"channel": self._name, "error": str(error)})
            return _answer(503, "it could not be kept")
        return _answer(202, "taken")


def _answer(status: int, sentence: str) -> web.Response:
    return web.json_response({"message": sentence}, status=status)
