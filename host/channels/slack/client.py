"""Slack's Web API: one call, and what its failures mean. Together with `http_events` what knows the SDK.

The SDK tries nothing again by itself: a message that it sent twice would be there twice. No error carries what the SDK
says of a request, because tokens and addresses with tickets stand there.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import aiohttp
from slack_sdk.errors import SlackClientError
from slack_sdk.web.async_client import AsyncWebClient

from host.channels.protocol import ChannelRefused, ChannelUnavailable, DeliveryRefused, TokenRefused
from host.channels.unreachable import unreachable

T = TypeVar("T")

APP_PAGE = "api.slack.com/apps"
_SECONDS = 30

_SILENT = logging.getLogger("host.channels.slack.sdk")
_SILENT.disabled = True  # it would log requests and addresses; what matters is told by the channel

_REFUSED = {
    "invalid_auth": "the token is refused",
    "not_authed": "no token was given",
    "account_inactive": "the app was removed from the workspace, or its account is switched off",
    "token_revoked": "the token was revoked",
    "token_expired": "the token has expired",
    "not_allowed_token_type": "it is not the kind of token that is needed here",
    "no_permission": "the token has not the rights for this",
    "org_login_required": "the workspace is being moved to an organisation",
    "ekm_access_denied": "an administrator of the workspace has suspended access",
    "team_access_not_granted": "the app is not admitted to this workspace",
    "enterprise_is_restricted": "the organisation restricts this",
    "two_factor_setup_required": "the workspace asks for two-factor authentication",
    "accesslimited": "access to this is limited for the workspace",
    "access_denied": "access is denied",
    "app_missing_action_url": "Interactivity is not switched on for the app",
}
_NEW_TOKEN = {
    "invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "not_allowed_token_type",
}  # fmt: skip
_WHERE = f"copy the Bot User OAuth Token at {APP_PAGE} under 'Install App' (after a removal install the app again)"
_LATER = {
    "ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout",
    "team_added_to_org", "deprecated_endpoint_unavailable", "message_limit_exceeded", "storage_limit_reached",
}  # fmt: skip
_NEVER = {
    "channel_not_found": "there is no such chat, or the bot is not in it",
    "not_in_channel": "the bot is not in the channel; invite it with /invite",
    "is_archived": "the channel is archived",
    "msg_too_long": "the message is too long",
    "no_text": "there is nothing in the message",
    "restricted_action": "an administrator does not let apps write in this channel",
    "restricted_action_read_only_channel": "the channel is read-only",
    "restricted_action_thread_only_channel": "in this channel only threads may be written in",
    "restricted_action_non_threadable_channel": "this channel has no threads",
    "thread_not_found": "the thread is gone",
    "message_not_found": "the message is gone",
    "cant_update_message": "the message is not the bot's own",
    "edit_window_closed": "the message is too old to be changed",
    "user_not_found": "there is no such person",
    "cannot_dm_bot": "the bot cannot write to a bot",
    "user_disabled": "the person's account is switched off",
    "invalid_name": "Slack has no such emoji",
    "file_not_found": "the file is gone",
    "file_deleted": "the file was deleted",
}


class SlackError(Exception):
    """Slack has understood the call and says no; `code` is its word for that."""

    def __init__(self, code: str, method: str, needed: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.method = method
        self.needed = needed

    def told(self) -> ChannelUnavailable | ChannelRefused | DeliveryRefused:
        """The error of the protocol that this is."""
        if self.code == "missing_scope":
            scope = self.needed or "for " + self.method
            return ChannelRefused(
                f"the app lacks the scope {scope}",
                hint=f"add it at {APP_PAGE} under 'OAuth & Permissions', and install the app again",
            )
        if self.code in _NEW_TOKEN:
            return TokenRefused(f"Slack: {_REFUSED[self.code]} ({self.code})", hint=_WHERE)
        if self.code in _REFUSED:
            return ChannelRefused(f"Slack: {_REFUSED[self.code]} ({self.code})", hint=f"see {APP_PAGE}")
        if self.code in _LATER:
            return ChannelUnavailable(f"Slack cannot do this now ({self.code})")
        return DeliveryRefused(f"Slack: {_NEVER.get(self.code, 'it will not do this')} ({self.code})")


class SlackApi:
    """Calls of the Web API with one token."""

    def __init__(self, token: str, base_url: str, session: aiohttp.ClientSession) -> None:
        self._client = AsyncWebClient(
            token=token, base_url=base_url, session=session, timeout=_SECONDS, logger=_SILENT, retry_handlers=[]
        )
        self.token = token

    async def call(self, method: str, **arguments: object) -> dict[str, Any]:
        """The answer to a call. Raises `SlackError`, and `ChannelUnavailable` where no usable answer came."""
        return (await self.call_with_head(method, **arguments))[0]

    async def call_with_head(self, method: str, **arguments: object) -> tuple[dict[str, Any], Mapping[str, str]]:
        """The same, and the head of the answer: the scopes of the token stand there."""
        data = {name: _form(value) for name, value in arguments.items() if value is not None}
        try:
            async with asyncio.timeout(_SECONDS):
                answer = await self._client.api_call(method, data=data)
        except SlackClientError as error:
            raise _failure(method, getattr(error, "response", None)) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise unreachable("Slack", error) from None
        except (AttributeError, ValueError, TypeError):  # the SDK fails so over an answer that is no JSON object
            raise ChannelUnavailable(f"Slack gives no usable answer to {method}") from None
        if not isinstance(answer.data, Mapping):
            raise ChannelUnavailable(f"Slack gives no usable answer to {method}")
        return dict(answer.data), answer.headers


async def asked(call: Coroutine[Any, Any, T]) -> T:
    """What a call gives, with Slack's refusals as the errors of the protocol."""
    try:
        return await call
    except SlackError as error:
        raise error.told() from None


def _failure(method: str, response: Any) -> Exception:
    status, data = getattr(response, "status_code", 0), getattr(response, "data", None)
    headers = getattr(response, "headers", {})
    if status == 429:
        return ChannelUnavailable("Slack says that this is too fast", retry_after=_seconds(headers.get("Retry-After")))
    if isinstance(data, Mapping) and isinstance(code := data.get("error"), str) and status < 500:
        if code in ("ratelimited", "rate_limited"):
            return ChannelUnavailable("Slack says that this is too fast", retry_after=_seconds(None))
        needed = data.get("needed")
        return SlackError(code[:100], method, needed if isinstance(needed, str) else None)
    return ChannelUnavailable(f"Slack gives no usable answer to {method} (status {status})")


def _seconds(value: str | None) -> float:
    try:
        return min(3600.0, max(1.0, float(value or 1)))
    except ValueError:
        return 30.0


def _form(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return str(value)
    return json.dumps(value)


def cursor_in(answer: Mapping[str, Any]) -> object:
    """What an answer of Slack's has in the place of the next page's cursor."""
    metadata = answer.get("response_metadata")
    return metadata.get("next_cursor") if isinstance(metadata, Mapping) else None
