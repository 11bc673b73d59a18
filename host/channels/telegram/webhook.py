"""The other way in: Telegram calls us. 200 only after the update is on the disk; with anything else it comes again.

Whether Telegram still calls is asked regularly: the address is ours, and nothing piles up that it cannot bring.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging

from aiohttp import web

from host.channels.health import Health
from host.channels.protocol import ChannelUnavailable
from host.channels.telegram.client import Client
from host.channels.telegram.receiver import TelegramReceiver
from host.channels.telegram.wire import KINDS
from shared_schema.json_text import parse
from shared_schema.system_errors import words_of

log = logging.getLogger(__name__)

_MAX_BYTES = 1024 * 1024
_HEADER = "X-Telegram-Bot-Api-Secret-Token"


def secret_of(token: str) -> str:
    """The secret that Telegram sends with each call, by which it is known; made from the token, and not it."""
    return hmac.new(token.encode(), b"dumbwaiter webhook", hashlib.sha256).hexdigest()


async def call_us(client: Client, url: str, token: str) -> None:
    """Tell Telegram where to call. Raises the errors of the protocol."""
    secret = secret_of(token)
    await client.ask(lambda: client.bot.set_webhook(url, secret_token=secret, allowed_updates=list(KINDS)))


async def watch(client: Client, url: str, health: Health, seconds: float) -> None:
    """Ask every so many seconds whether Telegram still calls. Raises `ChannelUnavailable`, `ChannelRefused`."""
    while True:
        await asyncio.sleep(seconds)
        hook = await client.ask(client.bot.get_webhook_info)
        if hook.url != url:
            raise ChannelUnavailable("the webhook of this bot was set elsewhere, or taken away")
        if hook.last_error_message and hook.pending_update_count:
            health.reason = f"Telegram cannot reach the webhook: {hook.last_error_message[:200]}"
            log.warning("Telegram cannot reach the webhook", extra={"pending": hook.pending_update_count})
        else:
            health.heard()


class Webhook:
    """A small HTTP server for one bot, behind a proxy that speaks https."""

    def __init__(self, receiver: TelegramReceiver, token: str, host: str, port: int) -> None:
        self._receiver = receiver
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
            raise ChannelUnavailable(f"port {self._port} cannot be listened at: {words_of(error)}", hint=hint) from None
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
        self._receiver.put(raw, lambda is_done: None if done.done() else done.set_result(is_done))
        return web.Response(status=200 if await done else 503)
