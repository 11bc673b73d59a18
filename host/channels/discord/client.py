"""discord.py: the gateway and the REST API. The only module that knows the SDK.

Of the SDK is used what it does well: identifying, heartbeats, resuming after a lost connection, the order of calls that
Discord's rate limits ask for. Its model of servers, members and messages is not: it keeps all of it in memory. Events
are handed over as Discord sends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import aiohttp
import discord
import yarl
from discord.gateway import DiscordWebSocket, ReconnectWebSocket
from discord.http import HTTPClient, Route, handle_message_parameters

from host.channels.protocol import Button, ChannelRefused, ChannelUnavailable, DeliveryRefused, TokenRefused
from host.channels.unreachable import unreachable

log = logging.getLogger(__name__)

PORTAL = "discord.com/developers/applications"
INTENTS = 1 << 0 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 15
"""Guilds, messages and reactions in guilds, messages and reactions in direct chats, message content."""

_MAY_READ = 1 << 18 | 1 << 19
"""Flags of an application: message content is granted, or granted as to one in less than 100 servers."""

_CALL_SECONDS = 60.0
_LONGEST_PACED = 30.0
"""Seconds up to which the SDK itself waits for a rate limit; beyond, the message goes back into the ledger."""

_RESUMES = 3
_NEVER = {
    10003: "there is no such channel",
    10004: "the bot is not in that server any more",
    10008: "the message is gone",
    10013: "there is no such person",
    10014: "there is no such emoji",
    20028: "the channel is written in too fast",
    40005: "the file is too large for Discord",
    50001: "the bot cannot see the channel (it lacks the right 'View Channel')",
    50005: "the message is not the bot's own",
    50006: "there is nothing in the message",
    50007: "the person takes no direct messages from the bot",
    50013: "the bot lacks a right in the channel ('Send Messages', 'Attach Files' or 'Add Reactions')",
    50035: "Discord does not take the message as it is",
    50083: "the thread is archived",
    160005: "the thread is locked",
}

discord.VoiceClient.warn_nacl = False  # the bot joins no voice chat
discord.VoiceClient.warn_dave = False


class _Http(HTTPClient):
    """The SDK's calls, at an address of our choice."""

    base = Route.BASE

    async def request(self, route: Route, **options: Any) -> Any:
        route.url = self.base + route.url.removeprefix(Route.BASE)
        return await super().request(route, **options)


class DiscordClient(discord.Client):
    """One connection to Discord.

    `received` is called with the name and the data of each event, in order, `heard` at each frame.
    """

    def __init__(
        self,
        base_url: str,
        received: Callable[[str, Mapping[str, Any]], None],
        heard: Callable[[], None],
        *,
        deaf_seconds: float,
    ) -> None:
        super().__init__(
            intents=discord.Intents._from_value(INTENTS),
            max_messages=None,
            chunk_guilds_at_startup=False,
            member_cache_flags=discord.MemberCacheFlags.none(),
            heartbeat_timeout=deaf_seconds,
            enable_debug_events=True,
        )
        self._received = received
        self._heard = heard
        self._deaf_seconds = deaf_seconds
        self.calls = _Http(self.loop, None, unsync_clock=True, max_ratelimit_timeout=_LONGEST_PACED)
        self.calls.base = base_url.rstrip("/")
        self.http = self.calls
        self._connection.http = self.calls
        self._connection.parsers.clear()

    def dispatch(self, event: str, /, *args: Any, **kwargs: Any) -> None:
        """The SDK tells of everything that it receives; of that every frame is taken as it is."""
        if event != "socket_raw_receive":
            return
        self._heard()
        frame = json.loads(args[0])
        name, data = frame.get("t"), frame.get("d")
        if isinstance(name, str) and isinstance(data, dict):
            self._received(name, data)

    async def log_in(self, token: str) -> dict[str, Any]:
        """Say who we are; who that is. Raises the errors of the protocol."""
        await self._async_setup_hook()
        return cast(dict[str, Any], await asked(self.calls.static_login(token)))

    async def about_us(self) -> dict[str, Any]:
        """What the portal knows of us. Raises the errors of the protocol."""
        return cast(dict[str, Any], await self.call("GET", "/applications/@me"))

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """One call by its path. Raises the errors of the protocol."""
        return await asked(self.calls.request(Route(method, path), **options))

    async def gateway(self) -> yarl.URL:
        """Where the gateway is. Raises the errors of the protocol; `ChannelUnavailable` where we connect too often."""
        answer = await self.call("GET", "/gateway/bot")
        limit = answer.get("session_start_limit") if isinstance(answer, dict) else None
        if isinstance(limit, dict) and limit.get("remaining") == 0:  # one more, and Discord takes the token away
            wait = float(limit.get("reset_after", 60_000)) / 1000
            raise ChannelUnavailable("Discord lets us connect no more for now", retry_after=wait)
        try:
            return yarl.URL(answer["url"])
        except (KeyError, TypeError, ValueError):
            raise ChannelUnavailable("Discord does not say where its gateway is") from None

    async def listen(self, gateway: yarl.URL) -> None:
        """Read events until the connection is lost for good. A connection that drops or is deaf is resumed: Discord
        sends what came meanwhile. Raises `ChannelUnavailable`, `ChannelRefused`.
        """
        place: dict[str, Any] = {"gateway": gateway, "initial": True}
        failed = 0
        while True:
            try:
                async with asyncio.timeout(self._deaf_seconds):
                    self.ws = await DiscordWebSocket.from_client(self, compress=False, **place)
                place["initial"] = False
                while True:
                    await self.ws.poll_event()
                    failed = 0
            except ReconnectWebSocket as error:
                failed += 1
                if not error.resume:  # what came meanwhile is caught up at the next start
                    raise ChannelUnavailable("Discord has ended the session") from None
                if self.ws is None or failed > _RESUMES:
                    raise ChannelUnavailable("Discord closes the connection again and again") from None
                log.info("the connection to Discord is resumed")
                place |= {"sequence": self.ws.sequence, "session": self.ws.session_id, "resume": True}
                place["gateway"] = self.ws.gateway
            except discord.ConnectionClosed as error:
                raise _closed(error.code) from None
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise unreachable("the gateway of Discord", error) from None
            except (ValueError, KeyError, TypeError, AttributeError) as error:  # a frame that is none
                raise ChannelUnavailable(f"the gateway of Discord makes no sense ({type(error).__name__})") from None

    async def send(
        self, channel_id: str, text: str, *, nonce: str, reply_to: str | None, buttons: Sequence[Button],
        files: Sequence[Path],
    ) -> str:  # fmt: skip
        """Send a message; its id. The same nonce within some minutes gives the same message. Raises as `asked`."""
        options: dict[str, Any] = {}
        if reply_to is not None:
            options["message_reference"] = {"message_id": reply_to, "fail_if_not_exists": False}
        if buttons:
            options["view"] = _view(buttons)
        if files:
            options["files"] = [discord.File(path, filename=path.name) for path in files]
        with handle_message_parameters(
            content=text or None, nonce=nonce, allowed_mentions=_MENTIONS, **options
        ) as parameters:
            answer = await asked(self.calls.send_message(channel_id, params=parameters))
        return str(answer["id"])

    async def edit(self, channel_id: str, message_id: str, text: str, buttons: Sequence[Button]) -> None:
        """Replace a message of ours, and its buttons. Raises as `asked`."""
        view = _view(buttons) if buttons else None
        with handle_message_parameters(content=text, view=view, allowed_mentions=_MENTIONS) as parameters:
            await asked(self.calls.edit_message(channel_id, message_id, params=parameters))

    async def delete(self, channel_id: str, message_id: str) -> None:
        """Take a message of ours away, if it is still there. Raises as `asked`."""

        async def take_away() -> None:
            with contextlib.suppress(discord.NotFound):
                await self.calls.delete_message(channel_id, message_id)

        await asked(take_away())

    async def close(self) -> None:
        """Disconnect. May be called twice."""
        if self.ws is not None and self.ws.open:
            await self.ws.close(code=1000)
        elif self.ws is not None and self.ws._keep_alive is not None:
            self.ws._keep_alive.stop()
        await self.calls.close()


_MENTIONS = discord.AllowedMentions(everyone=False, roles=False, users=True, replied_user=False)


def may_read_messages(application: Mapping[str, Any]) -> bool:
    """Whether the application is granted the intent to read what messages say."""
    flags = application.get("flags")
    return isinstance(flags, int) and bool(flags & _MAY_READ)


async def asked(call: Any) -> Any:
    """What a call of the SDK gives. Its failures as the errors of the protocol, without what was asked for."""
    try:
        async with asyncio.timeout(_CALL_SECONDS):
            found = await call
        if isinstance(found, str) and found:  # the SDK gives what is no JSON as a text
            raise ValueError("a text")
        return found
    except discord.LoginFailure:
        raise _token_refused() from None
    except discord.RateLimited as error:
        raise ChannelUnavailable("Discord says that this is too fast", retry_after=error.retry_after) from None
    except discord.HTTPException as error:
        raise _failure(error) from None
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise unreachable("Discord", error) from None
    except (ValueError, KeyError, TypeError) as error:  # the SDK fails so over an answer that is none
        raise ChannelUnavailable(f"Discord gives no usable answer ({type(error).__name__})") from None


def _failure(error: discord.HTTPException) -> Exception:
    if error.status == 401:
        return _token_refused()
    if error.status == 429 or error.status >= 500:
        wait = 30.0 if error.status == 429 else None
        return ChannelUnavailable(f"Discord cannot do this now (status {error.status})", retry_after=wait)
    reason = _NEVER.get(error.code, "it will not do this")
    return DeliveryRefused(f"Discord: {reason} ({error.code or error.status})")


def _closed(code: int | None) -> Exception:
    match code:
        case 4004:
            return _token_refused()
        case 4013 | 4014:
            return missing_intent()
        case 4010 | 4011:
            return ChannelRefused("the bot is in too many servers for one connection")
    return ChannelUnavailable(f"Discord closed the connection ({code})")


def _token_refused() -> TokenRefused:
    return TokenRefused("Discord refuses the token", hint=f"make a new one at {PORTAL} under 'Bot', 'Reset Token'")


def missing_intent() -> ChannelRefused:
    """Without it messages come empty."""
    return ChannelRefused(
        "the bot lacks the Message Content Intent: it could not read what people write",
        hint=f"switch it on at {PORTAL} under 'Bot', 'Privileged Gateway Intents'",
    )


def _view(buttons: Sequence[Button]) -> discord.ui.View:
    view = discord.ui.View(timeout=None)
    for button in buttons[:25]:
        label = button.label[:80] or "…"
        view.add_item(discord.ui.Button(label=label, custom_id=button.value, style=discord.ButtonStyle.secondary))
    return view
