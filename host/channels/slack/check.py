"""Who the app is on Slack, and what a person still has to set up there."""

from __future__ import annotations

from host.channels.protocol import ChannelRefused, Identity
from host.channels.slack.client import APP_PAGE, SlackApi, asked
from host.channels.slack.socket import address_of

SCOPES = (
    "app_mentions:read", "channels:history", "channels:read", "chat:write", "commands", "files:read", "files:write",
    "groups:history", "groups:read", "im:history", "im:read", "im:write", "mpim:history", "mpim:read",
    "reactions:read", "reactions:write", "users:read",
)  # fmt: skip
"""The scopes of the bot token that the manifest in docs/channels/slack.md asks for."""


async def check(api: SlackApi, app_api: SlackApi | None) -> Identity:
    """Ask Slack; `app_api` has the app-level token, in Socket Mode. Raises the errors of the protocol."""
    answer, head = await asked(api.call_with_head("auth.test"))
    missing = []
    granted = {scope.strip() for scope in head.get("x-oauth-scopes", "").split(",") if scope.strip()}
    if granted and (lacking := [scope for scope in SCOPES if scope not in granted]):
        what = ", ".join(lacking)
        missing.append(f"the app lacks the scopes {what}: add them at {APP_PAGE}, and install the app again")
    if app_api is not None:
        try:
            await address_of(app_api)
        except ChannelRefused as error:
            missing.append(str(error))
    return Identity(str(answer.get("user_id")), str(answer.get("user")), tuple(missing))
