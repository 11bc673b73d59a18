"""GitHub: issues and pull requests are threads, comments are messages."""

from __future__ import annotations

from host.channels.github.settings import GitHubSettings
from host.channels.protocol import Channel, Context
from host.channels.registry import ChannelType


def _make(settings: GitHubSettings, context: Context) -> Channel:
    from host.channels.github.channel import GitHubChannel

    return GitHubChannel(settings, context)


TYPE = ChannelType("github", GitHubSettings, _make, extra="github", has_direct_chats=False)
