"""The other way in: Telegram calls us. 200 only after the update is on the disk; with anything else it comes again."""

from __future__ import annotations

import asyncio
import hashlib
import hmac

from aiohttp import web

from host.channels.protocol import ChannelUnavailable
from host.channels.telegram.intake import Intake
from shared_schema.json_text import parse

_MAX_BYTES = 1024 * 1024
_HEADER = "X-Telegram-Bot-Api-Secret-Token"


def secret_of(token: str) -> str:
    """The secret that Telegram sends with each call, by which it is known; made from the token, and not it."""
    return hmac.new(token.encode(), b"dumbwaiter webhook", hashlib.sha256).hexdigest()


class Webhook:
    """A small HTTP server for one bot, behind a proxy that speaks https."""

    def __init__(self, intake: Intake, token: str, host: str, port: int) -> None:
        self._intake = intake
        self._secret = secret_of(token)
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None
        self.refused = 0

    async def start(self) -> int:
        """Listen; the port. Raises `ChannelUnavailable` where that is taken."""
        application = web.Application(client_max_size=_MAX_BYTES)
        application.router.add_post("/{path:.*}", self._update)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            hint = "set `webhook_port` to a free one"
            raise ChannelUnavailable(f"port {self._port} cannot be listened at: {error.strerror}", hint=hint) from None
        self._runner = runner
        return int(runner.addresses[0][1])

    async def close(self) -> None:
        """Stop listening. May be called twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _update(self, request: web.Request) -> web.Response:
        given = request.headers.get(_HEADER, "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._secret.encode()):
            self.refused += 1
            return web.Response(status=403)
        try:
            raw = parse(await request.read())
        except ValueError:
            raw = None  # it is from Telegram, and would come again and again: counted, and taken
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._intake.put(raw, lambda is_done: None if done.done() else done.set_result(is_done))
        return web.Response(status=200 if await done else 503)
