"""Mail: a mailbox that is read over IMAP, and replies that are sent over SMTP."""

from __future__ import annotations

from host.channels.email.settings import EmailSettings
from host.channels.protocol import Channel, Context
from host.channels.registry import ChannelType


def _make(settings: EmailSettings, context: Context) -> Channel:
    from host.channels.email.channel import EmailChannel

    return EmailChannel(settings, context)


TYPE = ChannelType("email", EmailSettings, _make, extra="email")
