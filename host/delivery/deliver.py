"""Sending what the ledger holds: one queue for each chat, retried for hours, recorded after.

In a chat conversations take turns, and each keeps its order. What fails of one message is that message's failure: it
rests, and is given up, alone.

A channel that takes an idempotency key is simply asked again after a crash. For one that cannot, the row says `sending`
while the platform is called; a host that finds such a row at its start does not know whether it arrived, and marks it
`uncertain` instead of sending it twice.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from host.background import boundary, heard
from host.central import deliveries, delivery_parts, drafts, unread
from host.central.database import Central, Queryable, Transaction
from host.central.deliveries import Chat, Delivery
from host.channels.protocol import Channel, ChannelRefused, ChannelUnavailable, DeliveryRefused
from host.delivery.change import CHANGES, change_of
from host.delivery.mirror import mirror
from host.delivery.outgoing import outgoing_of
from host.delivery.overheard import overhear
from host.delivery.parts import parts_of
from host.delivery.retry import RetryPolicy, wait_after
from host.delivery.rounds import Rounds
from host.delivery.steps import DeliveryStep, sending
from shared_schema.clock import Clock, from_text, to_text
from shared_schema.errors import DumbwaiterError, FileDamaged, FileTrouble
from shared_schema.layout import DataLayout
from shared_schema.rows import Address, DeliveryStatus, MessageOutKind
from shared_schema.text import without_lone_surrogates

log = logging.getLogger(__name__)


_MAX_BREAKS = 5
"""Attempts at a message over which its channel itself fails: that is not the platform's state, and does not pass."""

_MAX_SENTENCE = 500
_LONGEST_WAIT = 30.0
"""Seconds until a due time is looked at again: the wall clock may be set meanwhile."""


async def _no_draft(session_id: str) -> str | None:
    return None


class Deliverer:
    """Sends through the channels. `kick` a chat when the ledger has something for it."""

    def __init__(
        self,
        central: Central,
        layout: DataLayout,
        clock: Clock,
        channels: Mapping[str, Channel],
        *,
        policy: RetryPolicy,
        attempt_seconds: float,
        settle: Callable[[str], Awaitable[str | None]] = _no_draft,
        why_not: Callable[[str], str | None] = lambda name: None,
        works: Callable[[str], None] = lambda name: None,
        hide: Callable[[str], str] = lambda text: text,
    ) -> None:
        """`settle` ends the growing of an answer, and has the id of its draft.

        `why_not` says why nothing can be sent through a channel now, `works` hears of a channel that has just taken
        something, `hide` takes secrets out of what a channel says.
        """
        self._central = central
        self._layout = layout
        self._clock = clock
        self._channels = channels
        self._policy = policy
        self._attempt_seconds = attempt_seconds
        self._settle = settle
        self._why_not = why_not
        self._works = works
        self._hide = hide
        self._workers: dict[Chat, asyncio.Task[None]] = {}
        self._news: dict[Chat, asyncio.Event] = {}
        self._rounds: dict[Chat, Rounds] = {}
        self._one_rests = asyncio.Event()
        self._resting: set[Chat] = set()  # nothing is to be sent there now: it has its time, or the platform is down
        self._failing: dict[str, set[Chat]] = {}  # by channel: where something failed since the channel last worked

    async def start(self) -> None:
        """Take up what an earlier host left."""
        await self.mark_interrupted()
        await self.take_up()

    async def mark_interrupted(self) -> None:
        """Mark what an earlier host was sending: it is not known whether it arrived. Before anything is sent."""
        reason = "the host stopped while it was sending this"
        await self._central.write(deliveries.mark_interrupted, reason)

    async def take_up(self) -> None:
        """Send what waits. After the channels have been started."""
        for chat in await self._central.read(deliveries.chats_with_work):
            self.kick(chat)

    def kick(self, chat: Chat, following: Delivery | None = None) -> None:
        """There may be something to send to that chat. Does not shorten the wait for a platform that is down.

        `following` is what is next there, where the caller has just read it. Nothing is sent twice should it have been
        sent since: by its key, or because it is not pending any more.
        """
        self._news.setdefault(chat, asyncio.Event()).set()
        if chat not in self._workers:
            worker = asyncio.create_task(self._serve(chat, following), name=f"deliver {chat[0]}:{chat[1]}")
            self._workers[chat] = worker

    def channel_is_back(self, name: str) -> None:
        """A channel is connected again: what rests of its chats is tried at once."""
        self._wake([chat for chat in self._rounds if chat[0] == name])

    def channel_works(self, name: str) -> None:
        """A channel has just sent something: what failed through it since it last did is tried at once.

        That is once for each failure: a message that its platform will not take is not asked for again with each of
        its neighbours.
        """
        if failing := self._failing.pop(name, None):
            self._wake(failing)

    def _wake(self, chats: Iterable[Chat]) -> None:
        for chat in chats:
            if (rounds := self._rounds.get(chat)) is not None:
                rounds.wake()
                self._news[chat].set()

    async def close(self, drain_seconds: float = 2.0) -> None:
        """Send what can be sent within `drain_seconds`, then stop; what was not sent stays in the ledger."""
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_seconds):
                await self._until_all_rest()
        workers = list(self._workers.values())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _until_all_rest(self) -> None:
        """Wait until no worker has something to send. One that has begun to rest would only end much later."""
        while busy := [worker for chat, worker in self._workers.items() if chat not in self._resting]:
            self._one_rests.clear()
            rests = asyncio.create_task(self._one_rests.wait())
            try:
                await asyncio.wait([*busy, rests], return_when=asyncio.FIRST_COMPLETED)
            finally:
                rests.cancel()

    async def _serve(self, chat: Chat, following: Delivery | None) -> None:
        """Send everything for one chat, then leave."""
        news, rounds = self._news[chat], self._rounds.setdefault(chat, Rounds())
        try:
            while True:
                news.clear()
                wait: float | None = self._policy.first_seconds
                with boundary(log, "what is to be sent waits", chat=":".join(chat)):
                    wait = await self._send_next(chat, rounds, following)
                following = None
                if wait is None and not news.is_set():
                    return
                if wait is not None and wait > 0:
                    self._resting.add(chat)
                    self._one_rests.set()
                    await heard(news, wait)
                    if not rounds.is_resting:  # else it rests until something is really attempted
                        self._resting.discard(chat)
        finally:
            self._resting.discard(chat)
            del self._workers[chat], self._news[chat], self._rounds[chat]

    async def _send_next(self, chat: Chat, rounds: Rounds, delivery: Delivery | None) -> float | None:
        """Make one attempt. None when nothing is left, else the seconds until something is due (0: at once)."""
        if (all_rest := rounds.all_rest_for(time.monotonic())) > 0:
            return all_rest
        resting = rounds.resting(time.monotonic())
        if delivery is None:
            now = self._clock.now()
            delivery, due = await self._central.read(_next, chat, to_text(now), rounds.last, resting)
            if delivery is None:
                rest = rounds.next_in(time.monotonic())
                in_time = None if due is None else max(0.05, (from_text(due) - now).total_seconds())
                waits = [wait for wait in (rest, in_time) if wait is not None]
                return min(*waits, _LONGEST_WAIT) if waits else None
        self._resting.discard(chat)
        rounds.begin(delivery.lane)
        try:
            if await self._attempt(delivery, rounds):
                return None
        except DumbwaiterError:
            raise
        except Exception as error:  # the boundary of one message: what comes behind it is sent
            log.exception("a message cannot be handled", extra=_ids(delivery))
            await self._refused(delivery, f"the host failed over it: {type(error).__name__}")
        return 0

    async def _attempt(self, delivery: Delivery, rounds: Rounds) -> bool:
        """Try to send one message. Whether it is known that nothing else waits to be sent to its chat."""
        channel = self._channels.get(delivery.channel_type)
        if channel is None:
            why = self._why_not(delivery.channel_type)
            await self._failed_attempt(delivery, rounds, why or f"the channel {delivery.channel_type} is not set up")
            return False
        if (why := self._why_not(delivery.channel_type)) is not None:
            await self._failed_attempt(delivery, rounds, why)
            return False
        delivery = await self._with_draft(delivery)
        try:
            message = outgoing_of(delivery, self._layout)
            if message.files:  # their sizes are looked at
                parts = await asyncio.to_thread(parts_of, message, channel.capabilities)
            else:
                parts = parts_of(message, channel.capabilities)
            steps = await change_of(self._central, channel, delivery, message) if delivery.kind in CHANGES else None
        except DeliveryRefused as error:  # what it would change is not there
            await self._refused(delivery, error.what)
            return False
        except DumbwaiterError as error:
            if isinstance(error, FileTrouble) and not isinstance(error, FileDamaged):  # a full disk: that passes
                await self._failed_attempt(delivery, rounds, error.what)
            else:  # what is kept of it is no good, and will not be
                await self._refused(delivery, f"what is kept of it cannot be read: {error.what}")
            return False
        if steps is None and delivery.kind == MessageOutKind.EDIT and delivery.from_host:
            return await self._finish(delivery, DeliveryStatus.DELIVERED)  # the question stays as it was
        if steps is None:
            steps = sending(channel, parts, delivery.position)
        for number, step in enumerate(steps[delivery.parts_sent :], delivery.parts_sent + 1):
            if not step.is_repeatable and not await self._central.write(
                deliveries.mark_sending, delivery.position, len(steps)
            ):
                return False
            is_last = await self._try(delivery, rounds, step, number, len(steps))
            if is_last is not None:
                return is_last
        return False

    async def _with_draft(self, delivery: Delivery) -> Delivery:
        """The delivery with the draft that becomes it; the draft does not grow any more."""
        is_answer = delivery.kind == MessageOutKind.CHAT and delivery.in_reply_to is not None
        if not is_answer or delivery.deliver_after is not None or delivery.parts_sent:
            return delivery if not delivery.parts_sent else replace(delivery, draft_id=None)
        if delivery.from_host and delivery.draft_id is None:
            return delivery  # the answer to a command, for instance
        made = await self._settle(delivery.session_id)
        if made is None or made == delivery.draft_id:
            return delivery
        found = await self._central.read(drafts.of, delivery.session_id)
        address = Address(delivery.channel_type, delivery.platform_id, delivery.thread_id)
        return replace(delivery, draft_id=made) if found == (address, made) else delivery

    async def _try(
        self,
        delivery: Delivery,
        rounds: Rounds,
        step: DeliveryStep,
        number: int,
        parts: int,
    ) -> bool | None:
        """Make one call of the platform, the step `number` of so many, and record what came of it.

        None: the next part follows; else whether it is known that nothing else waits to be sent to the chat.
        """
        try:
            async with asyncio.timeout(self._attempt_seconds):
                platform_message_id = await step.call()
        except ChannelRefused as error:  # a person has to mend something; the message waits for that
            await self._failed_attempt(delivery, rounds, error.what)
        except ChannelUnavailable as error:
            await self._failed_attempt(delivery, rounds, error.what, error.retry_after)
        except DeliveryRefused as error:
            await self._refused(delivery, error.what)
        except TimeoutError:
            reason = "the platform did not answer in time"
            if not step.is_repeatable:
                return await self._may_have_arrived(delivery, step, number, parts, reason)
            await self._failed_attempt(delivery, rounds, reason, in_doubt=True)
        except Exception as error:  # the boundary of one delivery: a broken channel must not stop the others
            log.exception("a channel failed", extra=_ids(delivery))
            reason = f"the channel failed: {type(error).__name__}"
            if not step.is_repeatable:
                return await self._may_have_arrived(delivery, step, number, parts, reason)
            if isinstance(error, FileTrouble | OSError):  # a full disk, for instance: that passes
                await self._failed_attempt(delivery, rounds, reason, in_doubt=True)
            elif delivery.breaks + 1 >= _MAX_BREAKS:
                await self._refused(delivery, reason, in_doubt=True)
            else:
                await self._failed_attempt(delivery, rounds, reason, in_doubt=True, broke=True)
        else:
            self._works(delivery.channel_type)
            arrived = _identifier(platform_message_id)
            if number < parts:
                return await self._part_sent(delivery, step, number, parts, arrived)
            return await self._finish(delivery, DeliveryStatus.DELIVERED, step=step, platform_message_id=arrived)
        return False

    async def _part_sent(
        self,
        delivery: Delivery,
        step: DeliveryStep,
        number: int,
        parts: int,
        platform_message_id: str | None,
        *,
        is_doubtful: bool = False,
    ) -> bool | None:
        """Record a part, so that a crash before the next one repeats none. None: the next one is to be sent."""
        goes_on: list[bool] = []

        def note(tx: Transaction) -> None:
            own = platform_message_id if step.part_of in (None, delivery.position) else None
            goes_on[:] = [deliveries.mark_part(tx, delivery.position, number, parts, own, is_doubtful=is_doubtful)]
            _note_part(tx, delivery, step, platform_message_id)

        await self._record(note)
        return None if goes_on[0] else False

    async def _may_have_arrived(
        self, delivery: Delivery, step: DeliveryStep, number: int, parts: int, reason: str
    ) -> bool | None:
        """It is not known whether a part arrived, and it is not sent twice; those behind it are sent."""
        if number < parts:
            return await self._part_sent(delivery, step, number, parts, None, is_doubtful=True)
        return await self._finish(delivery, DeliveryStatus.UNCERTAIN, error=reason)

    async def _failed_attempt(
        self,
        delivery: Delivery,
        rounds: Rounds,
        error: str,
        retry_after: float | None = None,
        *,
        in_doubt: bool = False,
        broke: bool = False,
    ) -> None:
        left = rounds.rest_on(delivery.lane, now := time.monotonic())
        attempts, error = delivery.attempts + (not left), _sentence(self._hide(error))
        wait = wait_after(attempts, self._policy, retry_after=retry_after)
        if wait is None:
            log.error("a message was not delivered and is given up", extra=_ids(delivery) | {"error": error})
            await self._finish(delivery, DeliveryStatus.FAILED, error=error, in_doubt=in_doubt)
            return
        told = {"error": error, "wait": left or wait}
        log.warning("a message could not be delivered yet", extra=_ids(delivery) | told)

        def note(tx: Transaction) -> None:
            deliveries.mark_attempted(tx, delivery.position, attempts, error, in_doubt=in_doubt, broke=broke)

        await self._record(note)
        if not left:
            rounds.rest(delivery.lane, now + wait)
            self._failing.setdefault(delivery.channel_type, set()).add(delivery.chat)
        if retry_after is not None:
            rounds.rest_all(now + wait)

    async def _refused(self, delivery: Delivery, reason: str, *, in_doubt: bool = False) -> None:
        """A permanent failure: the agent is told with the record, the person by a notice in the same chat.

        `in_doubt`: this attempt had no answer, so the message may be there all the same.
        """
        reason = _sentence(self._hide(reason))
        log.error("a message was refused", extra=_ids(delivery) | {"error": reason})

        def fail(tx: Transaction) -> None:
            became = deliveries.finish(
                tx,
                delivery.position,
                DeliveryStatus.FAILED,
                attempts=delivery.attempts + 1,
                error=reason,
                in_doubt=in_doubt,
            )
            if delivery.from_host or became is None:
                return
            address = Address(delivery.channel_type, delivery.platform_id, delivery.thread_id)
            could = "could not be" if became == DeliveryStatus.FAILED else "may not have been"
            text = f"A reply {could} delivered here: {reason}"
            deliveries.add_notice(tx, delivery.session_id, address, delivery.in_reply_to, text)

        await self._record(fail)

    async def _finish(
        self,
        delivery: Delivery,
        status: DeliveryStatus,
        *,
        step: DeliveryStep | None = None,
        platform_message_id: str | None = None,
        error: str | None = None,
        in_doubt: bool = False,
    ) -> bool:
        """Note what became of a message, by its last step. Whether nothing else waits to be sent to its chat."""

        is_last = False
        is_own = step is None or step.part_of in (None, delivery.position)

        def finish(tx: Transaction) -> None:
            nonlocal is_last
            became = deliveries.finish(
                tx,
                delivery.position,
                status,
                attempts=delivery.attempts + 1,
                platform_message_id=platform_message_id if is_own else None,
                error=error,
                in_doubt=in_doubt,
            )
            if step is not None:
                _note_part(tx, delivery, step, platform_message_id)
                if step.leaves is not None and step.part_of is not None:
                    delivery_parts.set_count(tx, step.part_of, step.leaves)
            if status == DeliveryStatus.DELIVERED and not delivery.from_host:
                unread.note_reply(tx, delivery.session_id, delivery.message_out_id)
                if became is not None:
                    _mirrored(tx, delivery)
            if status == DeliveryStatus.DELIVERED and delivery.draft_id is not None:
                drafts.remove(tx, delivery.session_id, delivery.draft_id)
            # Asked here, it costs no way to another thread. What comes later is told to the worker (`kick`).
            is_last = not deliveries.is_any_open(tx, delivery.chat)

        await self._record(finish)
        log.info("delivered" if status == DeliveryStatus.DELIVERED else "not delivered", extra=_ids(delivery))
        return is_last

    async def _record(self, outcome: Callable[[Transaction], object]) -> None:
        """Write what came of an attempt into the ledger, however long that takes: it cannot be found out later."""
        while True:
            try:
                await self._central.write(outcome)
            except FileTrouble as error:
                log.error("what became of a message cannot be recorded yet", extra={"error": str(error)})
                await asyncio.sleep(self._policy.first_seconds)
            else:
                return


def _note_part(tx: Transaction, delivery: Delivery, step: DeliveryStep, platform_message_id: str | None) -> None:
    """Note which message a part is, or that it is no more."""
    if step.part_of is None:
        return
    if step.removes:
        delivery_parts.remove(tx, step.part_of, step.number)
    elif platform_message_id is not None:
        delivery_parts.put(tx, step.part_of, step.number, delivery.chat, platform_message_id)


def _mirrored(tx: Transaction, delivery: Delivery) -> None:
    """Show what was delivered in other conversations. What fails there never makes what was delivered be sent again."""
    try:
        mirror(tx, delivery)
        overhear(tx, delivery)
    except sqlite3.Error:  # the ledger's own file: all of it is written again
        raise
    except Exception:  # a copy for others, which must not undo a delivery that has happened
        log.exception("what was delivered cannot be shown in its chat's conversation", extra=_ids(delivery))


def _next(
    connection: Queryable, chat: Chat, now: str, after: str, resting: frozenset[str]
) -> tuple[Delivery | None, str | None]:
    delivery = deliveries.next_for(connection, chat, now, after=after, resting=resting)
    return delivery, None if delivery is not None else deliveries.next_due(connection, chat)


def _identifier(value: object) -> str | None:
    """What a channel says the platform calls a message, as it can be stored."""
    return None if value is None else without_lone_surrogates(str(value))[:_MAX_SENTENCE]


def _sentence(text: str) -> str:
    """Why something failed, as it can be stored and shown."""
    return without_lone_surrogates(text)[:_MAX_SENTENCE]


def _ids(delivery: Delivery) -> dict[str, object]:
    return {
        "session_id": delivery.session_id,
        "message_id": delivery.message_out_id,
        "chat": ":".join(delivery.chat),
    }
