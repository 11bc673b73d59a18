"""The channel `webhook`: an HTTP server for requests, and a client that posts replies.

    POST <path>/<chat>[?wait=true]   a signed body, JSON or text
      → 202 {"accepted": [{message_id, session_id, agent_group, duplicate}], "dropped": null}
      → 200 the same with "text" and "replies", after `wait=true`
      → 4xx, 503 {"error": …}        nothing of it was kept

Invariants: what is under way at the same time is bounded (requests, bytes of bodies, the time in which a body has to
come); a request is answered with 2xx only when its event is on the disk. Neither a secret nor the URL of replies gets
into a log line or an error.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import io
import json
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from host.channels.protocol import (
    BaseChannel,
    Button,
    Capabilities,
    ChannelRefused,
    ChannelUnavailable,
    Context,
    DeliveryRefused,
    Identity,
    Ingest,
    Outgoing,
)
from host.channels.unreachable import unreachable
from host.channels.webhook.replies import Replies, Reply
from host.channels.webhook.request import event_of, is_chat
from host.channels.webhook.settings import WebhookSettings
from host.channels.webhook.signature import ID, SignatureRefused, require_recent, require_signed, signed
from host.routing.event import Receipt
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.rows import Address
from shared_schema.system_errors import words_of

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 4 * 1024**2
_BODIES = 8
"""Bodies that are read at the same time; others wait. It bounds their memory."""
_MOST_REQUESTS = 512
_BODY_SECONDS = 10.0
_SEND_SECONDS = 30.0
_PROBE_SECONDS = 30.0
"""How often the channel asks itself over its own socket whether it still accepts connections."""
_FINAL = frozenset({400, 410, 413, 414, 415, 422})
"""Answers to a reply that will be the same next time. Others pass, or are mended by a person: they are tried again."""


class WebhookChannel(BaseChannel):
    """One listening socket, with a chat for each last part of its paths."""

    type = "webhook"

    def __init__(self, settings: WebhookSettings, context: Context) -> None:
        self.name = context.name
        self._settings = settings
        self._context = context
        self._replies = Replies(context.state)
        can_post = settings.url is not None or any(hook.url is not None for hook in settings.hooks.values())
        self.capabilities = Capabilities(
            max_file_bytes=MAX_FILE_BYTES, threads=True, edits=can_post, reactions=can_post, idempotent=True
        )
        both = (settings.secret, settings.old_secret)
        self._secrets = [secret.get_secret_value() for secret in both if secret is not None]
        self._bodies = asyncio.Semaphore(_BODIES)
        self._requests = 0
        self._ingest: Ingest | None = None
        self._runner: web.AppRunner | None = None
        self._client: aiohttp.ClientSession | None = None
        self.port = settings.port

    @property
    def url(self) -> str:
        """Where requests go, without the chat."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"http://{host}:{self.port}{self._settings.path.rstrip('/')}"

    async def check(self) -> Identity:
        return Identity(self.url, self.name)

    async def start(self, ingest: Ingest) -> None:
        self._ingest = ingest
        application = web.Application(client_max_size=self._settings.max_bytes)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_post(f"{self._settings.path.rstrip('/')}/{{chat}}", self._post)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=1.0,
            auto_decompress=False,  # what is signed is what was sent; and a small body stays small
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._settings.host, self._settings.port).start()
        except OSError as error:
            await self.close()
            where = f"{self._settings.host}:{self._settings.port}"
            if error.errno in (errno.EACCES, errno.EADDRNOTAVAIL):
                raise ChannelRefused(
                    f"the webhook cannot listen on {where}: {words_of(error)}", hint="set another host or port"
                ) from error
            raise ChannelUnavailable(
                f"the webhook cannot listen on {where}: {words_of(error)}",
                hint=f"another program has the port; set `port` under [channels.{self.name}] to another one",
            ) from error
        self.port = self._runner.addresses[0][1]
        self._context.health.heard()

    async def serve(self) -> None:
        while True:
            await asyncio.sleep(_PROBE_SECONDS)
            await self._probe()

    async def close(self) -> None:
        runner, self._runner = self._runner, None
        client, self._client = self._client, None
        if runner is not None:
            await runner.cleanup()
        if client is not None:
            await client.close()

    async def deliver(self, message: Outgoing) -> str | None:
        """Hand it to the caller that waits, or post it. With neither it is kept for a caller that asks again."""
        reply = await asyncio.to_thread(_reply_of, message)
        is_awaited = False
        if message.in_reply_to is not None:
            is_awaited = self._replies.is_awaited(message.in_reply_to)
            await self._replies.put(message.in_reply_to, reply)
        if self._settings.hook(message.address.platform_id).url is not None:
            if not is_awaited:
                await self._send(message.address, message.key, {"type": "message", **reply})
        elif message.in_reply_to is None:
            raise DeliveryRefused(
                f"there is no URL to post it to: set `url` under [channels.{self.name}] in dumbwaiter.toml"
            )
        return message.key

    async def edit(self, address: Address, platform_message_id: str, text: str, buttons: tuple[Button, ...]) -> None:
        content = {"type": "edit", **_where(address), "message_id": platform_message_id, "text": text}
        await self._send(address, _fresh(platform_message_id), content)

    async def react(self, address: Address, platform_message_id: str, emoji: str | None) -> None:
        content = {"type": "reaction", **_where(address), "message_id": platform_message_id, "emoji": emoji}
        await self._send(address, _fresh(platform_message_id), content)

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"channel": self.name})

    async def _post(self, request: web.Request) -> web.Response:
        if self._requests >= _MOST_REQUESTS:
            return _error(503, "too many requests are under way", retry_after=5)
        self._requests += 1
        try:
            return await self._answer(request, request.match_info["chat"])
        except SignatureRefused as error:
            log.warning("a request was refused", extra={"channel": self.name, "reason": error.what})
            return _error(401, str(error))
        except web.HTTPRequestEntityTooLarge:
            log.warning("a request was refused", extra={"channel": self.name, "reason": "it is too large"})
            return _error(413, f"the body may have {self._settings.max_bytes} bytes")
        except TimeoutError:
            return _error(408, f"the body did not come within {_BODY_SECONDS:.0f} s")
        except InvalidValue as error:
            log.warning("a request was refused", extra={"channel": self.name, "reason": error.what})
            return _error(400, str(error))
        except DumbwaiterError as error:  # it could not be kept: the caller sends it again
            log.error("a request could not be kept", extra={"channel": self.name, "error": str(error)})
            return _error(503, "it could not be kept; send it again", retry_after=5)
        except Exception as error:  # the boundary of one request
            log.exception("a request failed", extra={"channel": self.name})
            return _error(500, f"the host failed over it: {type(error).__name__}")
        finally:
            self._requests -= 1

    async def _answer(self, request: web.Request, chat: str) -> web.Response:
        require_recent(request.headers, self._context.clock.now().timestamp(), self._settings.tolerance_seconds)
        if request.headers.get("Content-Encoding", "identity") != "identity":
            return _error(415, "the body must not be compressed")
        if (request.content_length or 0) > self._settings.max_bytes:
            raise web.HTTPRequestEntityTooLarge(self._settings.max_bytes, request.content_length or 0)
        async with self._bodies:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await request.read()
            require_signed(self._secrets, request.headers, body)
            if not is_chat(chat):
                raise InvalidValue("the last part of the path names the chat: letters, digits, '.', '_', '-'")
            event = await asyncio.to_thread(
                event_of,
                Address(self.name, chat),
                request.headers[ID],
                body,
                self._settings.hook(chat),
                is_json=request.content_type != "text/plain",
                traceparent=request.headers.get("traceparent"),
            )
        assert self._ingest is not None, "the channel has been started"
        receipt = await self._ingest(event)
        self._context.health.heard()
        if receipt.accepted and request.query.get("wait") == "true":
            return await self._wait(receipt)
        return web.json_response(_shown(receipt), status=202)

    async def _wait(self, receipt: Receipt) -> web.Response:
        message_ids = [accepted.message_id for accepted in receipt.accepted]
        replies = await self._replies.wait(message_ids, self._settings.wait_seconds)
        if not replies:
            hint = "there is no reply yet; send the same request again to go on waiting"
            return web.json_response({**_shown(receipt), "hint": hint}, status=202)
        text = "\n\n".join(reply["text"] for reply in replies if reply["text"])
        return web.json_response({**_shown(receipt), "text": text, "replies": replies})

    async def _probe(self) -> None:
        """Prove that the socket still takes requests. Raises `ChannelUnavailable`."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._settings.host, self._settings.host)
        url = URL.build(scheme="http", host=host, port=self.port, path="/healthz")
        try:
            async with self._session().get(url, timeout=aiohttp.ClientTimeout(total=_BODY_SECONDS)) as response:
                response.raise_for_status()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ChannelUnavailable("the webhook does not take requests any more") from error
        self._context.health.heard()

    async def _send(self, address: Address, message_id: str, content: Mapping[str, Any]) -> None:
        """Post something to the URL of a chat. Raises as `deliver` does."""
        secret_url = self._settings.hook(address.platform_id).url
        if secret_url is None:
            raise DeliveryRefused("there is no URL to post it to")
        url = URL(secret_url.get_secret_value())
        body = json.dumps(content).encode()
        now = int(self._context.clock.now().timestamp())
        headers = signed(self._secrets[0], message_id, now, body)
        headers |= {"Content-Type": "application/json", "Idempotency-Key": message_id}
        try:
            # A stream: aiohttp sends bytes in one piece, and the loop waits as long as that takes.
            sent = self._session().post(url, data=io.BytesIO(body), headers=headers, allow_redirects=False)
            async with sent as response:
                status, wait = response.status, response.headers.get("Retry-After", "")
        except TimeoutError as error:
            raise ChannelUnavailable(f"{url.host} did not answer within {_SEND_SECONDS:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            # The library's own sentence may have the whole URL in it.
            raise unreachable(str(url.host), error) from None
        if 200 <= status < 300:
            return
        if status in _FINAL or 300 <= status < 400:
            raise DeliveryRefused(f"{url.host} answered with status {status}")
        seconds = float(wait) if wait.isascii() and wait.isdigit() and len(wait) <= 6 else None
        raise ChannelUnavailable(f"{url.host} answered with status {status}", retry_after=seconds)

    def _session(self) -> aiohttp.ClientSession:
        if self._client is None:
            self._client = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=_SEND_SECONDS)
            )
        return self._client


def _fresh(platform_message_id: str) -> str:
    """An id of its own for each change: a receiver takes one that it knows for a repetition, and leaves it out."""
    return f"{platform_message_id}/{secrets.token_hex(8)}"


def _where(address: Address) -> dict[str, str | None]:
    return {"chat": address.platform_id, "thread": address.thread_id}


def _reply_of(message: Outgoing) -> Reply:
    """What a caller gets of a message. Blocks: it reads the files."""
    return {
        "id": message.key,
        **_where(message.address),
        "in_reply_to": message.reply_to,
        "text": message.text,
        "from_host": message.from_host,
        "files": [_file(path) for path in message.files],
    }


def _file(path: Path) -> dict[str, str | int]:
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise DeliveryRefused(f"a file has {size} bytes, and a webhook takes {MAX_FILE_BYTES}")
    return {"name": path.name, "size": size, "content": base64.b64encode(path.read_bytes()).decode()}


def _shown(receipt: Receipt) -> dict[str, Any]:
    accepted = [
        {
            "message_id": each.message_id,
            "session_id": each.session_id,
            "agent_group": each.agent_group,
            "duplicate": each.duplicate,
        }
        for each in receipt.accepted
    ]
    return {"accepted": accepted, "dropped": receipt.dropped}


def _error(status: int, sentence: str, retry_after: int | None = None) -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    response = web.json_response({"error": sentence}, status=status, headers=headers)
    with contextlib.suppress(RuntimeError):
        response.force_close()  # what is left of a body that was refused is not read
    return response
