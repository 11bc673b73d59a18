"""Waiting for a turn's work, and ending it from outside: because the host took its messages back, or the agent must go.

Invariant: while the work goes on, `inbound.db` is read only after a hint or a poll said that it has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from container_agent.inbox import Inbox
from container_agent.outbox import RunningTurn
from container_agent.wake import Waker
from shared_schema.errors import DumbwaiterError, FileTrouble

REFUSAL_SECONDS = 1.0
"""How long a provider that was cancelled may take to end."""


class WillNotEnd(DumbwaiterError):
    """The provider goes on though it was cancelled; only the end of the process ends it."""


class Ended(Enum):
    """Why the waiting is over."""

    BY_ITSELF = auto()
    TAKEN_BACK = auto()  # the host wants no answer any more
    CHANGED = auto()  # it has taken some of the messages back, before the turn has said or done anything
    GIVEN_UP = auto()  # the agent must go


async def watch(
    work: asyncio.Task[Any],
    turn: RunningTurn,
    inbox: Inbox,
    waker: Waker,
    must_go: Callable[[], bool],
    changed: Callable[[], None],
    has_acted: Callable[[], bool],
) -> Ended:
    """Wait until the work is done, or end it. `waker` was armed before the turn's messages were read.

    `changed` hears whenever `inbound.db` may have changed, `has_acted` says whether others may know of the turn. Work
    that does not end when it is cancelled goes on, and is not `done`.
    """
    await asyncio.sleep(0)  # what need not wait for anything is done now
    if not work.done():
        work.add_done_callback(lambda _: waker.wake())
    message_ids = [message.id for message in turn.messages]
    asked = {message.id for message in turn.messages if message.trigger}
    again: float | None = None
    unread = 0  # attempts in a row
    while not work.done():
        await waker.wait(again)
        waker.arm()
        if work.done():
            break
        changed()
        again, ended = None, Ended.GIVEN_UP if must_go() else Ended.BY_ITSELF
        if ended is Ended.BY_ITSELF:
            try:
                wanted = inbox.wanted(message_ids, turn.generation)
                unread = 0
                if not wanted:
                    ended = Ended.TAKEN_BACK
                elif not asked <= wanted and not has_acted():
                    # A person has changed or deleted one while the host did not know that it is taken. What stands in
                    # its place is answered by another turn, so nothing is lost by beginning with what is still asked.
                    ended = Ended.CHANGED
            except FileTrouble:
                unread += 1
                again = waker.again(unread)
        if ended is not Ended.BY_ITSELF:
            work.cancel()
            await asyncio.wait({work}, timeout=REFUSAL_SECONDS)
            return ended
    return Ended.BY_ITSELF
