"""Discord: one bot, in servers and in direct messages."""

from __future__ import annotations

from host.channels.discord.settings import DiscordSettings
from host.channels.protocol import Channel, Context
from host.channels.registry import ChannelType


def _make(settings: DiscordSettings, context: Context) -> Channel:
    from host.channels.discord.channel import DiscordChannel

    return DiscordChannel(settings, context)


DISCORD = ChannelType("discord", DiscordSettings, _make, extra="discord")
TYPE = DISCORD
