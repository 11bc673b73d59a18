"""How a channel is: whether it is connected and hears, since when, and why not."""

from __future__ import annotations

from dataclasses import field
from datetime import datetime
from enum import StrEnum

from shared_schema.clock import Clock
from shared_schema.dataclass import dataclass


class ChannelStatus(StrEnum):
    """`starting`: not connected yet. `unavailable`: tried again soon. `refused`: a person has to mend something."""

    STARTING = "starting"
    CONNECTED = "connected"
    UNAVAILABLE = "unavailable"
    REFUSED = "refused"
    STOPPED = "stopped"


@dataclass(slots=True)
class Health:
    """The state of one channel. `since` is when `status` began, `last_heard` the last proof that the channel hears.

    `reason` is a sentence on what is wrong, `hint` what to do about it; `reconnects` counts the connections that were
    lost or deaf.
    """

    clock: Clock
    status: ChannelStatus = ChannelStatus.STARTING
    since: datetime = field(init=False)
    last_heard: datetime | None = None
    reason: str | None = None
    hint: str | None = None
    reconnects: int = 0

    def __post_init__(self) -> None:
        self.since = self.clock.now()

    def heard(self) -> None:
        """The channel has just proved that it hears: it is connected."""
        self.last_heard = self.clock.now()
        self._become(ChannelStatus.CONNECTED, None, None)

    def failed(self, status: ChannelStatus, reason: str, hint: str | None = None) -> None:
        """The channel is not connected, and why."""
        if self.status == ChannelStatus.CONNECTED:
            self.reconnects += 1
        self._become(status, reason, hint)

    def stopped(self) -> None:
        """The host has closed the channel."""
        self._become(ChannelStatus.STOPPED, None, None)

    def _become(self, status: ChannelStatus, reason: str | None, hint: str | None) -> None:
        if status != self.status:
            self.status, self.since = status, self.clock.now()
        self.reason, self.hint = reason, hint
