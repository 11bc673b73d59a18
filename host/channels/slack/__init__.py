"""Slack: one app in one workspace. A second workspace is a second channel of this type, with a token of its own."""

from __future__ import annotations

from host.channels.protocol import Channel, Context
from host.channels.registry import ChannelType
from host.channels.slack.settings import SlackSettings


def _make(settings: SlackSettings, context: Context) -> Channel:
    from host.channels.slack.channel import SlackChannel

    return SlackChannel(settings, context)


SLACK = ChannelType("slack", SlackSettings, _make, extra="slack")
TYPE = SLACK
