"""Sending what the host says outside of any conversation: one worker for each channel, retried for hours.

A card of an approval is looked at once more before it is sent: one that is decided meanwhile is not shown. An edit
comes behind the card it is about, and stands as a message of its own where the platform changes none.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from host.background import boundary, heard
from host.central import approvals, host_messages, users
from host.central.approvals import ApprovalState
from host.central.database import Central, Queryable
from host.central.host_messages import HostMessage
from host.channels.protocol import Button, Channel, ChannelRefused, ChannelUnavailable, DeliveryRefused, Outgoing
from host.delivery.parts import card_parts
from host.delivery.rests import Rests
from host.delivery.retry import RetryPolicy, wait_after
from host.delivery.split import split
from shared_schema.clock import Clock, from_text, to_text
from shared_schema.errors import DumbwaiterError
from shared_schema.rows import Address, DeliveryStatus, MessageOutKind
from shared_schema.text import without_lone_surrogates

log = logging.getLogger(__name__)

_LONGEST_WAIT = 30.0
_LONGEST_ERROR = 500


class HostMessenger:
    """Sends through the channels. `kick` when the ledger has something new."""

    def __init__(
        self,
        central: Central,
        clock: Clock,
        channels: Mapping[str, Channel],
        *,
        policy: RetryPolicy,
        attempt_seconds: float,
        noticed: Callable[[], None],
        works: Callable[[str], None] = lambda name: None,
        hide: Callable[[str], str] = lambda text: text,
    ) -> None:
        """`noticed` hears of each message that was sent, `works` of the channel that has sent it.

        `hide` takes the secrets of channels out of an error.
        """
        self._central = central
        self._clock = clock
        self._channels = channels
        self._policy = policy
        self._attempt_seconds = attempt_seconds
        self._noticed = noticed
        self._works = works
        self._hide = hide
        self._parts_sent: dict[int, int] = {}  # by position: of a message in several parts, how many have gone out
        self._back: set[str] = set()  # channels that seem to be well again: what rests is tried
        self._failing: set[str] = set()  # channels through which something failed since they last worked
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._kicks: set[asyncio.Task[None]] = set()

    async def mark_interrupted(self) -> None:
        """At the start of a host: what the last one was sending may or may not have arrived."""
        reason = "the host stopped while it was sending this"
        await self._central.write(host_messages.mark_interrupted, reason)

    def channel_is_back(self, name: str) -> None:
        """A channel was started: what failed through it is tried again now."""
        self._back.add(name)
        self.kick()

    def channel_works(self, name: str) -> None:
        """A channel has just sent something: what failed since it last did is tried now, once."""
        if name in self._failing:
            self._failing.discard(name)
            self.channel_is_back(name)

    def kick(self) -> None:
        """There may be something to send."""
        task = asyncio.create_task(self._kick())
        self._kicks.add(task)
        task.add_done_callback(self._kicks.discard)

    async def close(self) -> None:
        """Stop; what was not sent stays in the ledger."""
        tasks = [*self._kicks, *self._workers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _kick(self) -> None:
        for channel in await self._channels_with_work():
            self._news.setdefault(channel, asyncio.Event()).set()
            if channel not in self._workers:
                self._workers[channel] = asyncio.create_task(self._serve(channel), name=f"host messages {channel}")

    async def _channels_with_work(self) -> list[str]:
        while True:
            with boundary(log, "messages of the host wait"):  # nothing else says that there is something to send
                return await self._central.read(host_messages.channels_with_work)
            await asyncio.sleep(self._policy.first_seconds)

    async def _serve(self, channel: str) -> None:
        news = self._news[channel]
        rests: Rests[int] = Rests()
        try:
            while True:
                news.clear()
                wait: float | None = self._policy.first_seconds
                with boundary(log, "messages of the host wait", channel=channel):
                    wait = await self._send_next(channel, rests)
                if wait is None and not news.is_set():
                    return
                if wait:
                    await heard(news, min(wait, _LONGEST_WAIT))
        finally:
            del self._workers[channel], self._news[channel]

    async def _send_next(self, channel: str, rests: Rests[int]) -> float | None:
        """Make one attempt. None when nothing is left, else the seconds until something is due (0: at once)."""
        if channel in self._back:
            self._back.discard(channel)
            rests.wake()
        resting = rests.resting(time.monotonic())
        now = self._clock.now()
        message, held = await self._central.read(_next, channel, sorted(resting), to_text(now))
        if message is None:
            until = None if held is None else max(0.05, (from_text(held) - now).total_seconds())
            waits = [wait for wait in (rests.next_in(time.monotonic()), until) if wait is not None]
            return max(0.05, min(waits)) if waits else None
        rests.begin(message.position)
        try:
            await self._attempt(message, rests)
        except DumbwaiterError:
            raise
        except Exception as error:  # the boundary of one message: what comes behind it is sent
            log.exception("a message of the host cannot be sent", extra={"channel": channel})
            await self._finish(message, DeliveryStatus.FAILED, error=f"the host failed over it: {type(error).__name__}")
        return 0

    async def _attempt(self, message: HostMessage, rests: Rests[int]) -> None:
        """Send one message. It has its outcome then, or rests until another attempt."""
        channel = self._channels.get(message.channel_type)
        if channel is None:
            await self._failed(message, rests, f"the channel {message.channel_type} is not set up")
            return
        if await self._central.read(_is_stale, message):
            await self._finish(message, "suppressed")
            return
        if not channel.capabilities.idempotent and not await self._central.write(
            host_messages.mark_sending, message.position
        ):
            return
        try:
            async with asyncio.timeout(self._attempt_seconds):
                platform_id, sent_as = await self._deliver(channel, message)
        except ChannelUnavailable as error:
            await self._failed(message, rests, error.what, error.retry_after)
        except ChannelRefused as error:  # a person has to mend something; the message waits for that
            await self._failed(message, rests, error.what)
        except DeliveryRefused as error:
            reason = self._hide(error.what)
            log.warning("a message of the host was refused", extra={"key": message.key, "error": reason})
            await self._finish(message, DeliveryStatus.FAILED, error=reason)
        except TimeoutError:
            await self._unanswered(channel, message, rests, "the platform did not answer in time")
        except Exception as error:  # a broken channel: whether the platform has it is not known
            log.exception("a channel failed", extra={"key": message.key})
            await self._unanswered(channel, message, rests, f"the channel failed: {type(error).__name__}")
        else:
            self._works(message.channel_type)
            await self._finish(message, DeliveryStatus.DELIVERED, platform_id=platform_id, sent_as=sent_as)
            self._noticed()

    async def _deliver(self, channel: Channel, message: HostMessage) -> tuple[str, str | None]:
        """Send it; in which chat, and the platform's id of it."""
        edits = message.edits
        before = None if edits is None else await self._central.read(host_messages.by_key, edits)
        if before is not None and before.platform_id is not None and before.platform_message_id is not None:
            address = Address(before.channel_type, before.platform_id, before.thread_id)
            if channel.capabilities.edits:
                text = _last_part(_shown_on(channel, before, before.text), _shown_on(channel, message, message.text))
                text = _shown_on(channel, message, message.short)[0] if text is None else text
                await channel.edit(address, before.platform_message_id, text, ())
                return before.platform_id, before.platform_message_id
        platform_id = message.platform_id or (None if before is None else before.platform_id)
        if platform_id is None:
            if message.to_user is None:
                raise DeliveryRefused("it says neither a chat nor a user")
            if not channel.capabilities.direct_messages:
                raise DeliveryRefused(
                    f"{channel.name} cannot open a direct chat, and {message.to_user} has not written"
                )
            platform_id = await channel.open_direct(message.to_user.partition(":")[2])
            await self._note_direct_chat(message.to_user, platform_id)
        texts = _shown_on(channel, message, message.text if edits is None else message.short)
        sent_as: str | None = None
        for number, text in enumerate(texts, 1):
            if number <= self._parts_sent.get(message.position, 0):
                continue  # an attempt before this one has sent it
            is_last = number == len(texts)
            sent_as = await channel.deliver(
                Outgoing(
                    key=f"host/{message.key}" if number == 1 else f"host/{message.key}#{number}",
                    address=Address(message.channel_type, platform_id, message.thread_id),
                    kind=MessageOutKind.CARD if message.buttons else MessageOutKind.CHAT,
                    text=text,
                    from_host=True,
                    # Under the last part: who presses a button has all the others above it.
                    buttons=tuple(Button(label, value) for label, value in message.buttons) if is_last else (),
                )
            )
            if not is_last:
                self._parts_sent[message.position] = number
        return platform_id, sent_as

    async def _note_direct_chat(self, user: str, platform_id: str) -> None:
        await self._central.write(users.seen, user, platform_id, None)

    async def _unanswered(self, channel: Channel, message: HostMessage, rests: Rests[int], error: str) -> None:
        """An attempt that may have arrived: it is repeated where that is harmless."""
        if channel.capabilities.idempotent:
            await self._failed(message, rests, error, in_doubt=True)
        else:
            await self._finish(message, DeliveryStatus.UNCERTAIN, error=error)

    async def _failed(
        self,
        message: HostMessage,
        rests: Rests[int],
        error: str,
        retry_after: float | None = None,
        *,
        in_doubt: bool = False,
    ) -> None:
        """It rests until the next attempt, or is given up, and `in_doubt` says that it may be there."""
        error = self._hide(error)
        left = rests.rest_on(message.position, now := time.monotonic())
        attempts = message.attempts + (not left)
        wait = wait_after(attempts, self._policy, retry_after=retry_after)
        if wait is None:
            log.error("a message of the host is given up", extra={"key": message.key, "error": error})
            await self._finish(message, DeliveryStatus.UNCERTAIN if in_doubt else DeliveryStatus.FAILED, error=error)
            return
        await self._central.write(host_messages.mark_attempted, message.position, attempts, _stored(error))
        if not left:
            rests.rest(message.position, now + wait, is_fixed=retry_after is not None)
            self._failing.add(message.channel_type)

    async def _finish(
        self,
        message: HostMessage,
        status: str,
        *,
        platform_id: str | None = None,
        sent_as: str | None = None,
        error: str | None = None,
    ) -> None:
        self._parts_sent.pop(message.position, None)
        await self._central.write(
            host_messages.finish,
            message.position,
            status,
            platform_id=platform_id,
            platform_message_id=None if sent_as is None else _stored(sent_as),
            error=None if error is None else _stored(error),
        )


def _next(connection: Queryable, channel: str, resting: list[int], now: str) -> tuple[HostMessage | None, str | None]:
    """What is to be sent now; where nothing is, until when the first message is held."""
    message = host_messages.next_for(connection, channel, resting, now)
    return message, None if message is not None else host_messages.next_held(connection, channel, now)


def _is_stale(connection: Queryable, message: HostMessage) -> bool:
    """Whether it is a card of an approval that is decided."""
    if message.approval_id is None or message.edits is not None:
        return False
    approval = approvals.get(connection, message.approval_id)
    return approval is None or approval.state != ApprovalState.PENDING


def _shown_on(channel: Channel, message: HostMessage, text: str) -> list[str]:
    """A text as the messages that a platform takes. Words of strangers in a card are shown as they wrote them."""
    can = channel.capabilities
    return split(text, can.max_text, can.text_unit) if message.approval_id is None else card_parts(text, can)


def _last_part(before: list[str], now: list[str]) -> str | None:
    """What the last message of a card becomes, the others staying as they are; None where they would not fit to it."""
    return now[-1] if now[:-1] == before[:-1] else None


def _stored(text: str) -> str:
    return without_lone_surrogates(str(text))[:_LONGEST_ERROR]
