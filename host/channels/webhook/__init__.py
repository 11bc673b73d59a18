"""Webhooks: any program sends a signed POST, and the reply is posted to a URL or held back in the same request."""

from __future__ import annotations

from host.channels.protocol import Channel, Context
from host.channels.registry import ChannelType
from host.channels.webhook.settings import WebhookSettings


def _make(settings: WebhookSettings, context: Context) -> Channel:
    from host.channels.webhook.channel import WebhookChannel

    return WebhookChannel(settings, context)


TYPE = ChannelType("webhook", WebhookSettings, _make, has_direct_chats=False)
