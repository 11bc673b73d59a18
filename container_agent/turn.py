"""One run of a provider: over one batch, or for one control task of the host.

Invariant: a provider's turn always ends as a result or as a failure with one sentence. Only cancellation and the end of
the process pass through, and those leave the turn as it stands in `outbound.db`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from container_agent import attachments, parts, usage_accounting
from container_agent.check import NOTHING, Check, no_check
from container_agent.outbox import Outbox, RunningTurn, TurnFailure
from container_agent.providers.protocol import (
    Provider,
    ProviderError,
    Rememberer,
    Reply,
    Step,
    Summarizer,
    TurnInterrupted,
    TurnRequest,
    TurnResult,
    Usage,
)
from container_agent.tools.said_already import not_said_yet
from container_agent.tools.turn_inbox import TurnInbox
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileTrouble
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import SessionLayout
from shared_schema.rows import PROVIDER_BROKE, ControlTask, FailureReason, MessageIn, MessageOutKind
from shared_schema.text import without_lone_surrogates

log = logging.getLogger("container_agent")

MEMORY_SECONDS = 60.0
"""What saving to memory may take: the summary of the conversation, and all that is written meanwhile, waits for it."""


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The outcome of a turn in which something on our side died: its messages are taken again. As `TurnInterrupted`."""

    what: str
    reason: FailureReason


Outcome = tuple[TurnResult, list[str]] | TurnFailure | GivenBack
T = TypeVar("T", Reply, Step)

_DRAFT_SECONDS = 0.4
"""How often the answer that is being written is shown, at most. Each time is a commit, and a look of the host's."""
_DRAFT_SHARE = 10
"""Where a commit is slow (a network mount), drafts take at most a tenth of the time."""
_DRAFT_CHARACTERS = 8_000
"""Of an answer that is longer the end is shown: a screen has no room for more."""


class Output:
    """The `TurnOutput` of one turn, which begins now and may take some seconds."""

    def __init__(
        self, outbox: Outbox, turn: RunningTurn, session: SessionLayout, seconds: float, max_text: int = 100_000
    ) -> None:
        self._outbox = outbox
        self._turn = turn
        self._folder = session.outbox
        self._max_text = max_text
        self._last = max(message.seq for message in turn.messages)
        self._answered = [message.id for message in turn.messages]
        self.sent: list[Reply] = []
        self.has_acted = False
        """Whether others may know of the turn: it has said something, used a tool, or shown a part of its answer."""
        self._next_draft = asyncio.get_running_loop().time() + _DRAFT_SECONDS
        self.turn_inbox = TurnInbox(
            session.inbound,
            session.outbound,
            generation=turn.generation,
            acknowledged=outbox.acknowledged,
            take=self._join,
        )
        self.deadline = asyncio.get_running_loop().time() + seconds
        """When the turn must be over, by the monotonic clock."""
        self.at_end = AsyncExitStack()
        """What is to be done when the turn is over, however it ends."""
        self.used = Usage()
        """What the steps added so far say was used."""
        self.limit: asyncio.Timeout | None = None
        """Ends the turn at its deadline."""

    @contextmanager
    def paused(self, why: str, seconds: float) -> Iterator[None]:
        """What the turn waits for is on our side: its time stands still, and `agent_state` says so."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if self.limit is not None:
            self.limit.reschedule(None)
        self.set_tool(why, seconds)
        try:
            yield
        finally:
            self.deadline += loop.time() - began
            if self.limit is not None and not self.limit.expired():
                self.limit.reschedule(self.deadline)
            self.set_tool(None)

    def recall(self, name: str) -> str:
        return self._outbox.learned(name)

    def remember(self, name: str, text: str) -> None:
        self._outbox.learn(name, text)

    async def prepare(self, reply: Reply) -> str:
        """A new message id, with the reply's files in their place."""
        message_id = new_id(Prefix.MESSAGE)
        if reply.files:
            await asyncio.to_thread(attachments.place, self._folder, message_id, reply.files)
        return message_id

    def parted(self, reply: Reply) -> list[Reply]:
        """A reply as the messages it goes as."""
        return parts.of_reply(reply, self._max_text)

    async def send(self, reply: Reply) -> str:
        message_id, self.has_acted = "", True
        for part in self.parted(reply):
            message_id = await self.prepare(part)
            self._outbox.append_message(self._turn, message_id, _storable(part))
        self.sent.append(reply)
        return message_id

    async def take(self) -> Sequence[MessageIn]:
        """What people said meanwhile where the turn's answer goes, or changed of what it answers; it is the turn's now.

        A turn over a message that was tried before takes none along: it may be one that kills the agent.
        """
        if any(message.tries for message in self._turn.messages):
            return ()
        try:
            return self.turn_inbox.follow_ups(self._turn.messages[-1].address, after=self._last, about=self._answered)
        except FileTrouble:  # the host writes it at this moment: the next time
            return ()

    def _join(self, message: MessageIn) -> None:
        self._outbox.join_turn(self._turn, message)
        self._answered.append(message.id)

    def append_steps(self, steps: Sequence[Step]) -> None:
        self.has_acted = True
        self.used = usage_accounting.added(self.used, usage_accounting.of_steps(steps))
        self._outbox.append_steps(self._turn, [_storable(step) for step in steps])

    def set_tool(self, name: str | None, seconds: float | None = None) -> None:
        self.has_acted = True
        self._outbox.set_tool(self._turn, name, seconds)

    def draft(self, text: Callable[[], str]) -> None:
        """Show how far an answer has come, if it is time; only then `text` is asked. Never fails."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if began < self._next_draft:
            return
        self.has_acted = True
        with suppress(FileTrouble):  # it is only for showing
            self._outbox.set_draft(without_lone_surrogates(text()[-_DRAFT_CHARACTERS:]))
        took = loop.time() - began
        self._next_draft = began + max(_DRAFT_SECONDS, _DRAFT_SHARE * took)


class QuietOutput(Output):
    """The output of a control task: what it used counts, but it adds nothing to the conversation."""

    async def take(self) -> Sequence[MessageIn]:
        return ()  # what people say meanwhile is for a turn of its own

    async def send(self, reply: Reply) -> str:
        raise ProviderError(FailureReason.BAD_INPUT, "a control task sends no messages")

    def append_steps(self, steps: Sequence[Step]) -> None:
        self.used = usage_accounting.added(self.used, usage_accounting.of_steps(steps))

    def draft(self, text: Callable[[], str]) -> None:
        """No view shows a control task."""


async def at_once(name: str) -> None:
    """A provider that needs nothing to be made ready."""


def refusal(load: Callable[[str], Provider], name: str) -> str | None:
    """Why a provider cannot do control tasks; None when it can, or when its turn will say why not."""
    try:
        provider = load(name)
    except Exception:  # the turn will meet it again, and fails with it
        return None
    return None if isinstance(provider, Summarizer) else f"the provider {name} cannot summarize"


async def run(
    load: Callable[[str], Provider],
    request: TurnRequest,
    output: Output,
    control_task: ControlTask | None = None,
    ready: Callable[[str], Awaitable[None]] = at_once,
    check: Check = no_check,
) -> Outcome:
    """Run the provider that the context names, until the turn's deadline.

    Returns its result with the ids of the replies, whose files are in place; or why there is none.
    """
    try:
        async with asyncio.timeout_at(output.deadline) as limit, output.at_end:
            output.limit = limit
            if control_task is None:
                checked = await check(request)
                if checked is None:
                    return TurnResult(stop_reason=NOTHING), []
                request = checked
            await ready(request.context.provider)
            provider = load(request.context.provider)
            if control_task is None:
                result = _storable_result(await provider.run(request, output), output.used)
                replies = not_said_yet(result.replies, output.sent, request)
                result = replace(result, replies=[part for reply in replies for part in output.parted(reply)])
            else:
                result = await _run_control_task(provider, request, output, control_task)
            return result, [await output.prepare(reply) for reply in result.replies]
    except TurnInterrupted as interrupted:
        return GivenBack(interrupted.what, interrupted.reason)
    except ProviderError as error:
        detail, stop_reason = without_lone_surrogates(error.detail), error.stop_reason
        return TurnFailure(error.reason, without_lone_surrogates(error.what), output.used, detail, stop_reason)
    except Exception as error:  # the boundary of one turn
        if limit.expired():
            sentence = f"the turn took longer than {request.context.turn_seconds:g} seconds"
            return TurnFailure(FailureReason.TIMEOUT, sentence, output.used)
        log.exception("the provider %s failed", request.context.provider)
        sentence = f"{PROVIDER_BROKE}{type(error).__name__}"
        return TurnFailure(FailureReason.PROVIDER_ERROR, sentence, output.used)


async def _run_control_task(
    provider: Provider, request: TurnRequest, output: Output, control_task: ControlTask
) -> TurnResult:
    """The answer to a control task is one message to the host; steps and pointer are of no conversation."""
    if control_task is ControlTask.REMEMBER:
        return await _remember(provider, request, output)
    if control_task is ControlTask.SUMMARIZE and request.context.save_memory:  # before most of what was said is gone
        try:
            await _remember(provider, request, output)
        except ProviderError as error:
            log.warning("nothing was saved to memory: %s", error)
    assert isinstance(provider, Summarizer)
    result = _storable_result(await provider.summarize(request, control_task, output), output.used)
    text = "\n".join(reply.text for reply in result.replies).strip()
    if not text:
        raise ProviderError(FailureReason.PROVIDER_ERROR, f"the provider {provider.name} had no answer")
    answer = Reply(text, in_reply_to=request.messages[0].id, kind=MessageOutKind.SYSTEM)
    return TurnResult(replies=[answer], usage=result.usage, model=result.model, fallback=result.fallback)


async def _remember(provider: Provider, request: TurnRequest, output: Output) -> TurnResult:
    """Save to memory what is worth it, within a minute. A provider that cannot has nothing to save."""
    if not isinstance(provider, Rememberer):
        return TurnResult()
    try:
        async with asyncio.timeout(MEMORY_SECONDS):
            result = await provider.remember(request, output)
    except TimeoutError as error:
        sentence = f"saving to memory took longer than {MEMORY_SECONDS:g} seconds"
        raise ProviderError(FailureReason.TIMEOUT, sentence) from error
    return TurnResult(usage=result.usage)


def _storable_result(result: TurnResult, used: Usage) -> TurnResult:
    """Returns any result of a provider as SQLite can store it; `used` is of the steps it added before."""
    steps = usage_accounting.added(used, usage_accounting.of_steps(result.steps))
    said = usage_accounting.storable(result.usage)
    pointer = result.provider_session_id
    return replace(
        result,
        replies=[_storable(reply) for reply in result.replies],
        steps=[_storable(step) for step in result.steps],
        usage=said if result.cumulative else usage_accounting.of_turn(said, steps),
        provider_session_id=None if pointer is None else without_lone_surrogates(pointer),
        stop_reason=None if result.stop_reason is None else without_lone_surrogates(result.stop_reason),
        detail=without_lone_surrogates(result.detail),
        fallback=without_lone_surrogates(result.fallback),
        context_tokens=usage_accounting.tokens(result.context_tokens),
        context_window=usage_accounting.tokens(result.context_window),
    )


def _storable(said: T) -> T:
    """The same without lone surrogates, which JSON can say and UTF-8 cannot."""
    values = {name: getattr(said, name) for name in said.__match_args__}
    foreign: dict[str, Any] = {
        name: without_lone_surrogates(value)
        for name, value in values.items()
        if isinstance(value, str) and not value.isascii()
    }
    return replace(said, **foreign) if foreign else said
