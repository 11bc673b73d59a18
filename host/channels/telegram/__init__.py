"""Telegram: a bot of @BotFather's, by long polling or a webhook. docs/channels/telegram.md."""

from __future__ import annotations

from host.channels.protocol import Channel, Context
from host.channels.registry import ChannelType
from host.channels.telegram.settings import TelegramSettings


def _make(settings: TelegramSettings, context: Context) -> Channel:
    from host.channels.telegram.channel import TelegramChannel

    return TelegramChannel(settings, context)


TYPE = ChannelType("telegram", TelegramSettings, _make, extra="telegram")
