"""Who the bot is on Discord, and what a person still has to set up there."""

from __future__ import annotations

from host.channels.discord.client import DiscordClient, may_read_messages, missing_intent
from host.channels.protocol import Identity

_RIGHTS = 1 << 6 | 1 << 10 | 1 << 11 | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 38
"""Add reactions, view channels, send messages, embed links, attach files, read history, send in threads."""


async def check(client: DiscordClient, token: str) -> Identity:
    """Ask Discord. Raises the errors of the protocol."""
    me = await client.log_in(token)
    application = await client.about_us()
    missing = []
    if not may_read_messages(application):
        missing.append(str(missing_intent()))
    if not await client.call("GET", "/users/@me/guilds"):
        missing.append(f"the bot is in no server: invite it with {invitation(str(application.get('id')))}")
    return Identity(str(me["id"]), str(me.get("global_name") or me["username"]), tuple(missing))


def invitation(application_id: str) -> str:
    """The address with which a person lets the bot into a server."""
    scopes = "bot+applications.commands"
    return f"https://discord.com/oauth2/authorize?client_id={application_id}&scope={scopes}&permissions={_RIGHTS}"
