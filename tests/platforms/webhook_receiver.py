"""A program that gets replies by webhook: it checks each signature (Standard Webhooks 1.0), and keeps what is new."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.wait import until


@dataclass
class WebhookReceiver:
    """What was posted to `url`. `answers` are the statuses of the next answers; after them it is 204."""

    secret: str
    url: str = ""
    attempts: list[dict[str, str]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    hangs: bool = False
    drops_after_taking: int = 0

    async def take(self, request: web.Request) -> web.Response:
        """One request, the way a careful receiver takes it."""
        body = await request.read()
        headers = {name: request.headers[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
        content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        right = base64.b64encode(hmac.digest(self._key(), content, hashlib.sha256)).decode()
        assert headers["webhook-signature"] == f"v1,{right}", "the signature of a reply is not right"
        assert request.headers["Idempotency-Key"] == headers["webhook-id"]
        self.attempts.append(headers)
        if self.hangs:
            await asyncio.Event().wait()
        if self.answers:
            return web.Response(status=self.answers.pop(0))
        if headers["webhook-id"] not in {message["id"] for message in self.messages}:
            self.messages.append({**json.loads(body), "id": headers["webhook-id"]})
        if self.drops_after_taking:
            self.drops_after_taking -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=204)

    def _key(self) -> bytes:
        """What signs: the text of the secret, or the base64 behind `whsec_`."""
        kind, _, rest = self.secret.partition("whsec_")
        return base64.b64decode(rest) if rest and not kind else self.secret.encode()

    async def got(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many different messages have come."""
        await until(lambda: len(self.messages) >= count, f"{count} messages are posted")
        return self.messages


@asynccontextmanager
async def receiving(secret: str) -> AsyncIterator[WebhookReceiver]:
    """A receiver on a free port of the loopback, until the block ends."""
    receiver = WebhookReceiver(secret)
    application = web.Application(client_max_size=64 * 1024**2)
    application.router.add_post("/replies/token-of-the-url", receiver.take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/replies/token-of-the-url"
    try:
        yield receiver
    finally:
        await runner.cleanup()
