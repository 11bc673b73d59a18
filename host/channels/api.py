"""Programs as a channel: one chat for each token (`api:<name>`), one thread of it for each conversation."""

from __future__ import annotations

from host.channels.browser import BrowserChannel

CHANNEL_TYPE = "api"


class ApiChannel(BrowserChannel):
    """The way in for what programs say over HTTP. What is answered stands in the ledger, from where they read it."""

    name = type = CHANNEL_TYPE
