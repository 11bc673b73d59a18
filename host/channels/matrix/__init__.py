"""Matrix: a bot's account on any homeserver."""

from __future__ import annotations

from host.channels.matrix.settings import MatrixSettings
from host.channels.protocol import Channel, Context
from host.channels.registry import ChannelType


def _make(settings: MatrixSettings, context: Context) -> Channel:
    from host.channels.matrix.channel import MatrixChannel

    return MatrixChannel(settings, context)


TYPE = ChannelType("matrix", MatrixSettings, _make, extra="matrix")
