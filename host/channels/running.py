"""Running the channels of a host: each in a task of its own, started, served, closed and started again.

Invariant: what one channel does (it cannot be built, hangs, fails, is refused) reaches neither the host nor another
channel; it is told in the channel's health, and the channel is tried again.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import Any

from host import log as logs
from host.background import heard
from host.backoff import Backoff
from host.central.database import Central
from host.channels.build import FindType, build, type_of
from host.channels.health import ChannelStatus, Health
from host.channels.next_line import hint_with_line
from host.channels.protocol import Channel, ChannelUnavailable, Context, Ingest
from host.channels.registry import channel_type, installed
from host.channels.state import CentralState
from host.secrets import hidden
from host.sessions.attachments import FileLimits
from host.similar import did_you_mean
from shared_schema.clock import Clock, to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError, FileTrouble, NotFound

log = logging.getLogger(__name__)

_START_SECONDS = 300.0
"""In which a channel has to connect and to catch up what its platform has kept."""
_CLOSE_SECONDS = 10.0
_FIRST_SECONDS = 1.0
"""How long the start of the host waits for the first attempts, so that what is quick is connected when it is ready."""
_STEADY_SECONDS = 60.0
"""A connection that lasted so long was a good one: after it the waits begin anew."""


UNAVAILABLE = Backoff(1.0, 60.0)
REFUSED = Backoff(60.0, 900.0)
"""A person has to mend something, and a platform that refuses is not to be asked all the time."""


@dataclass(slots=True)
class _Entry:
    """One channel: what is known of it, and the task that runs it. `channel` is None where it cannot be built."""

    name: str
    type: str
    health: Health
    channel: Channel | None = None
    table: Mapping[str, Any] | None = None
    secrets: tuple[str, ...] = ()
    is_up: bool = False
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    again: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class RunningChannels:
    """All channels of a host but the terminal.

    `channels` is what can be sent through, by name, and changes as channels come and go. `connected` hears of each that
    has just been started, `built` of each that is there.
    """

    def __init__(
        self,
        central: Central,
        clock: Clock,
        downloads: Path,
        file_limits: FileLimits,
        tables: Mapping[str, Mapping[str, Any]],
        *,
        given: Sequence[Channel] = (),
        find: FindType = channel_type,
        built: Callable[[Channel], object] = lambda channel: None,
        connected: Callable[[str], object] = lambda name: None,
    ) -> None:
        """`tables` are the settings by name; channels in `given` are there already."""
        self.channels: dict[str, Channel] = {}
        self._central = central
        self._clock = clock
        self._downloads = downloads
        self._file_limits = file_limits
        self._find = find
        self._built = built
        self._connected = connected
        self._ingest: Ingest | None = None
        self._entries: dict[str, _Entry] = {}
        for name, table in tables.items():
            self._entries[name] = self._entry(name, table)
        for channel in given:
            self._entries[channel.name] = _Entry(channel.name, channel.type, Health(clock), channel)
            self._add(channel)

    async def start(self, ingest: Ingest) -> None:
        """Build and run all of them. Returns soon, also when one of them hangs."""
        self._ingest = ingest
        await asyncio.to_thread(shutil.rmtree, self._downloads, ignore_errors=True)
        entries = list(self._entries.values())
        for entry in entries:
            self._run(entry)
        if entries:
            await asyncio.wait([asyncio.ensure_future(entry.tried.wait()) for entry in entries], timeout=_FIRST_SECONDS)

    async def close(self) -> None:
        """End all of them."""
        await asyncio.gather(*(self._end(entry) for entry in self._entries.values()))

    async def put(self, name: str, table: Mapping[str, Any]) -> None:
        """Run a channel with these settings from now on, in place of the one of that name."""
        await self.remove(name)
        entry = self._entries[name] = self._entry(name, table)
        if self._ingest is not None:
            self._run(entry)
            await _first_attempts([entry])

    async def remove(self, name: str) -> None:
        """End a channel, if there is one of that name; what waits to be sent through it stays in the ledger."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            await self._end(entry)
            self.channels.pop(name, None)

    def try_again(self, name: str) -> None:
        """Try a channel now: what was wrong with it may be mended."""
        if (entry := self._entries.get(name)) is not None:
            entry.again.set()

    def context(self, name: str, health: Health) -> Context:
        """What a channel of that name is given."""
        downloads = self._downloads / name
        state = CentralState(self._central, self._clock, name)
        lasting = self._downloads.parent / "channels" / name  # `downloads` is emptied at every start
        return Context(name, self._clock, state, health, downloads, self._file_limits, lasting)

    async def built_apart(self, name: str, table: Mapping[str, Any] | None = None) -> Channel:
        """A channel of its own with the settings of that name, to ask its platform something; the caller closes it.

        `table` are other settings than those it runs with. Raises `NotFound`, and as `build`.
        """
        entry = self.require(name)
        table = entry.table if table is None else table
        if table is None:
            assert entry.channel is not None, "a channel without settings was given"
            return entry.channel
        made = await asyncio.to_thread(build, table, self.context(name, Health(self._clock)), self._find)
        logs.keep_out(made.secrets)
        return made.channel

    def require(self, name: str) -> _Entry:
        """Raises `NotFound` where there is no channel of that name."""
        if name not in self._entries:
            known = f"`dumbwaiter channel list` shows all ({', '.join(self._entries)})" if self._entries else ""
            added = f"`dumbwaiter channel add {name if name in installed() else 'NAME'}` sets one up"
            raise NotFound(
                f"there is no channel '{name}'{did_you_mean(name, self._entries)}",
                hint=", ".join(part for part in (known, added) if part),
            )
        return self._entries[name]

    def names(self) -> list[str]:
        """The names of all of them."""
        return list(self._entries)

    def table(self, name: str) -> Mapping[str, Any] | None:
        """The settings of a channel; None for one that was given."""
        return self.require(name).table

    def why_not(self, name: str) -> str | None:
        """Why nothing can be sent through a channel now, as a sentence; None when something can."""
        entry = self._entries.get(name)
        if entry is None or entry.is_up:
            return None if name in self.channels else f"the channel {name} is not set up"
        reason = self.hide(entry.health.reason or "it is not connected yet")
        return f"the channel {name} is not connected: {reason}"

    def states(self) -> list[dict[str, Any]]:
        """How each of them is, for `status` and `doctor`. Nothing secret is in it."""
        return [
            {
                "name": entry.name,
                "type": entry.type,
                "state": str(entry.health.status),
                "since": to_text(entry.health.since),
                "reason": None if entry.health.reason is None else self.hide(entry.health.reason),
                "hint": None if entry.health.hint is None else self.hide(entry.health.hint),
                "last_heard": None if entry.health.last_heard is None else to_text(entry.health.last_heard),
                "reconnects": entry.health.reconnects,
            }
            for entry in self._entries.values()
        ]

    def hide(self, text: str) -> str:
        """A text of a platform's or its SDK's, without any secret of a channel."""
        return hidden(text, [secret for entry in self._entries.values() for secret in entry.secrets])

    def _entry(self, name: str, table: Mapping[str, Any]) -> _Entry:
        return _Entry(name, type_of(name, table), Health(self._clock), table=table)

    def _add(self, channel: Channel) -> None:
        self.channels[channel.name] = channel
        self._built(channel)

    def _run(self, entry: _Entry) -> None:
        entry.task = asyncio.create_task(self._live(entry), name=f"channel {entry.name}")

    async def _live(self, entry: _Entry) -> None:
        """Attempt after attempt, until cancelled."""
        failures = 0
        while True:
            began = self._clock.monotonic()
            wait = await self._attempt(entry, failures + 1)
            failures = 1 if self._clock.monotonic() - began > _STEADY_SECONDS else failures + 1
            entry.tried.set()
            await heard(entry.again, wait)
            entry.again.clear()

    async def _attempt(self, entry: _Entry, failures: int) -> float:
        """One connection from its start to its end; how long to wait before the next."""
        assert self._ingest is not None, "they have been started"
        before = (entry.health.status, entry.health.reason)
        refused, retry_after = False, 0.0
        try:
            channel = entry.channel or await self._make(entry)
            try:
                await self._connect(entry, channel)
                await channel.serve()
                raise ChannelUnavailable("the connection has ended")
            finally:
                entry.is_up = False
                await self._close(entry, channel)
        except ChannelUnavailable as error:
            retry_after = error.retry_after or 0.0
            entry.health.failed(ChannelStatus.UNAVAILABLE, error.what, error.hint)
        except FileTrouble as error:  # the host's own disk, which may be mended by itself
            entry.health.failed(ChannelStatus.UNAVAILABLE, error.what, error.hint)
        except DumbwaiterError as error:  # `ChannelRefused`, or it cannot be built
            refused = True
            entry.health.failed(ChannelStatus.REFUSED, error.what, hint_with_line(error, entry.name))
        except Exception as error:  # the boundary of one channel
            log.exception("a channel failed", extra={"channel": entry.name})
            what = f"the channel failed: {type(error).__name__}"
            entry.health.failed(ChannelStatus.UNAVAILABLE, what, "the host's log says more")
        wait = max((REFUSED if refused else UNAVAILABLE).after(failures), retry_after)
        level = logging.DEBUG if before == (entry.health.status, entry.health.reason) else logging.WARNING
        state = {
            "channel": entry.name,
            "state": str(entry.health.status),
            "reason": self.hide(entry.health.reason or ""),
        }
        log.log(level, "a channel is not connected", extra=state | {"wait": wait})
        return wait

    async def _make(self, entry: _Entry) -> Channel:
        """Build the channel. Once: it is started again as often as need be. Raises as `build`."""
        assert entry.table is not None, "a channel without settings was given"
        made = await asyncio.to_thread(build, entry.table, self.context(entry.name, entry.health), self._find)
        logs.keep_out(made.secrets)
        entry.channel, entry.secrets = made.channel, made.secrets
        self._add(made.channel)
        return made.channel

    async def _connect(self, entry: _Entry, channel: Channel) -> None:
        assert self._ingest is not None, "they have been started"
        await asyncio.to_thread((self._downloads / entry.name).mkdir, 0o700, parents=True, exist_ok=True)
        try:
            async with asyncio.timeout(_START_SECONDS) as limit:
                await channel.start(self._ingest)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ChannelUnavailable(f"it did not connect within {_START_SECONDS:g} seconds") from error
        if entry.health.status != ChannelStatus.CONNECTED:
            entry.health.heard()
        entry.is_up = True
        entry.tried.set()
        log.info("a channel is connected", extra={"channel": entry.name, "type": entry.type})
        self._connected(entry.name)

    async def _end(self, entry: _Entry) -> None:
        if entry.task is not None:
            entry.task.cancel()
            await asyncio.wait([entry.task])
        elif entry.channel is not None:
            await self._close(entry, entry.channel)
        entry.health.stopped()

    async def _close(self, entry: _Entry, channel: Channel) -> None:
        """Disconnect; a platform that fails or hangs holds up nothing."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await channel.close()
        except Exception as error:  # the boundary of one channel
            what = self.hide(str(error))[:500] or type(error).__name__
            log.warning("a channel could not be closed in good order", extra={"channel": entry.name, "error": what})


async def _first_attempts(entries: Sequence[_Entry]) -> None:
    """Wait a moment until each of them was tried once."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_SECONDS):
            await asyncio.gather(*(entry.tried.wait() for entry in entries))
