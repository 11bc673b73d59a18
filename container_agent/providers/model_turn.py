"""One turn of a model: ask it, call the tools it wants, ask again, until it has nothing more to call.

Invariants: however a turn ends, what was said and used until then is in the transcript; a request is repeated only
while nothing of its answer was used; a turn makes a bounded number of requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field

from pydantic_ai import exceptions
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import ModelRequest, ModelResponse, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings

from container_agent.providers import model_failures, model_history, model_images
from container_agent.providers.model_chain import ModelChain
from container_agent.providers.model_endings import Ending, How, ending_of
from container_agent.providers.model_names import ModelChoice, usual_window
from container_agent.providers.model_prompt import ModelPrompt
from container_agent.providers.model_seams import Drafting, Incoming, TurnSetup, WayOut
from container_agent.providers.our_side import OurSide
from container_agent.providers.protocol import ProviderError, Reply, Step, TurnOutput, TurnRequest, TurnResult
from container_agent.providers.spoken import has_answered
from shared_schema.clock import Clock
from shared_schema.dataclass import dataclass
from shared_schema.rows import FailureReason, MessageIn
from shared_schema.text import without_lone_surrogates

MOST_REQUESTS = 50
MOST_CONTINUATIONS = 4
GO_ON = (
    "[Your answer was cut off at the longest that you may write at once. Go on exactly where it stops, repeat nothing.]"
)
NOTHING_SAID = "[You have said nothing yet. Answer now, in a sentence at least, what came of it.]"
_CUT_CALL = (
    "Error: this call was not made. It was cut off, because the answer reached the longest that you may write at once; "
    "write less in one call, for instance a long file in several parts"
)
_CUT = "[This answer was cut off: {model} had written as much as it may at once. Ask it to go on.]"
_FULL = (
    "[This answer was cut off: the conversation has filled what {model} can keep in mind. "
    "/compress goes on from a summary.]"
)


@dataclass(slots=True)
class ModelAnswer:
    """What one chain of answers came to: their text, how the last one ended, and what it calls."""

    text: str
    ending: Ending
    response: ModelResponse
    calls: list[ToolCallPart] = field(default_factory=list)


class ModelTurn:
    """Runs once. `retry_seconds` are the waits before a request is made again whose connection failed.

    `chain` says which model is asked when a service refuses, and `model_named` makes it.
    """

    def __init__(
        self,
        model: Model,
        choice: ModelChoice,
        request: TurnRequest,
        out: TurnOutput,
        setup: TurnSetup,
        *,
        clock: Clock,
        retry_seconds: Sequence[float],
        way_out: WayOut,
        chain: ModelChain,
        model_named: Callable[[str], Awaitable[tuple[Model, ModelChoice]]],
    ) -> None:
        self._model = model
        self._choice = choice
        self._request = request
        self._out = out
        self._setup = setup
        self._toolbox = setup.toolbox
        self._chain = chain
        self._model_named = model_named
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._our_side = OurSide(way_out, out)
        self._settings = ModelSettings(cache=True, max_retries=0)
        self._prompt = ModelPrompt(choice, request, out, setup)
        self._history: Sequence[Step] = ()
        self._kept: list[Step] = []  # of this turn, in the transcript
        self._steps: list[Step] = []  # not in the transcript yet
        self._context_tokens: int | None = None
        self._last: Ending | None = None
        self._requests = 0
        self._so_far = ""  # of an answer that was cut off and goes on

    @property
    def window(self) -> int | None:
        """How many tokens the model takes; None when that is not known."""
        return self._model.context_window or usual_window(self._choice)

    async def run(self, history: Sequence[Step]) -> TurnResult:
        """The whole turn. Raises `ProviderError`, `TurnInterrupted`."""
        self._history = history
        self._steps += [self._step_of(message) for message in self._request.messages]
        await asyncio.to_thread(self._prompt.begin, history, list(self._steps))
        try:
            text = await self._converse()
        except ProviderError as error:
            error.stop_reason = error.stop_reason or self._stop_reason
            self._keep(remembered=error.is_to_be_remembered)
            if (failed := self._chain.failed(error)) is not error:
                raise failed from error
            raise
        except BaseException:  # stopped, out of time, or a mistake of ours: it goes on from here
            self._keep()
            raise
        text = "\n\n".join(part for part in (text, *self._prompt.lessons) if part)
        return TurnResult(
            replies=[Reply(text)] if text else [],
            steps=self._steps,
            context_tokens=self._context_tokens,
            context_window=self.window,
            stop_reason=self._stop_reason,
            detail="\n".join(self._prompt.refusals),
            model=self._chain.answered_by,
            fallback=self._chain.why,
        )

    async def answer(self, prompt: str) -> TurnResult:
        """The answer to a prompt of the agent's own; nothing of it is remembered. Raises `ProviderError`."""
        self._prompt.say_alone(prompt)
        try:
            text = model_history.said_in(await self._ask()).strip()
        finally:
            self._keep()
        return TurnResult(
            replies=[Reply(text)] if text else [],
            stop_reason=self._stop_reason,
            model=self._chain.answered_by,
            fallback=self._chain.why,
        )

    @property
    def _stop_reason(self) -> str | None:
        return None if self._last is None else self._last.word or None

    async def work(self, prompt: str, *, most: int, max_tokens: int) -> TurnResult:
        """Work at a prompt of the agent's own with the tools, in at most `most` requests of `max_tokens` each.

        Nothing of it is remembered. Raises `ProviderError`.
        """
        self._prompt.say_alone(prompt)
        self._settings["max_tokens"] = max_tokens
        try:
            for _ in range(most):
                response = await self._ask()
                calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
                if not calls:
                    break
                said = ModelAnswer("", self._last or Ending(How.WHOLE, ""), response, calls)
                self._prompt.add(response, ModelRequest([*await self._results(said)]))
        finally:
            self._keep()
        return TurnResult()

    async def _converse(self) -> str:
        """Ask until an answer calls no tool. Returns the last words, maybe of an earlier answer, or none."""
        before, has_called, was_reminded = "", False, False
        while True:
            said = await self._answer_whole()
            if said.calls:
                has_called, before = True, said.text or before
                self._keep()
                results = await self._results(said)
                self._prompt.add(said.response, ModelRequest([*results, *await self._news()]))
            elif said.text:
                return self._with_note(said)
            elif before or has_answered(self._request, self._out):
                return before
            elif (not has_called and said.ending.how is not How.MUDDLED) or was_reminded:
                after = " after it had used its tools" if has_called else ""
                raise ProviderError(FailureReason.PROVIDER_ERROR, f"'{self._choice.name}' had nothing to say{after}")
            else:
                was_reminded = True
                self._remind(NOTHING_SAID, said.response)

    async def _answer_whole(self) -> ModelAnswer:
        """One answer, gone on with where it was cut off. Its text is all of it."""
        self._so_far, number = "", 0
        while True:
            response = await self._ask()
            ending = self._last or Ending(How.WHOLE, "")
            text = self._so_far + model_history.said_in(response)
            calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
            if ending.how is not How.CUT or calls or number == MOST_CONTINUATIONS or not text.strip():
                break
            number += 1
            self._so_far = text
            self._keep()
            self._remind(GO_ON, response)
        if ending.how is How.CUT and not text.strip() and not calls:
            raise ProviderError(FailureReason.PROVIDER_ERROR, f"the answer of '{self._choice.name}' became too long")
        return ModelAnswer(text.strip(), ending, response, calls)

    def _with_note(self, said: ModelAnswer) -> str:
        """The text, with what the person has to know of its end."""
        note = {How.CUT: _CUT, How.FULL: _FULL}.get(said.ending.how, "")
        return "\n\n".join(part for part in (said.text, note.format(model=self._choice.name)) if part)

    def _remind(self, text: str, response: ModelResponse) -> None:
        """Say something to the model that no person said."""
        self._steps.append(Step("system", text))
        said = [response] if response.parts else []
        self._prompt.add(*said, ModelRequest([UserPromptPart(text)]))

    async def _results(self, said: ModelAnswer) -> list[ToolReturnPart]:
        """Carry out the calls, one after the other; not the last one of an answer that was cut off."""
        results = []
        for number, call in enumerate(said.calls, start=1):
            if said.ending.how in (How.CUT, How.FULL) and number == len(said.calls):
                text = _CUT_CALL
            else:
                arguments = call.args if call.args else "{}"
                text = without_lone_surrogates(await self._toolbox.call(call.tool_name, arguments, call.tool_call_id))
            results.append(ToolReturnPart(call.tool_name, text, call.tool_call_id))
            self._steps.append(Step("tool", text, tool_name=call.tool_name, tool_call_id=call.tool_call_id))
        return results

    async def _news(self) -> list[UserPromptPart]:
        """What people have said meanwhile."""
        if not isinstance(self._out, Incoming):
            return []
        steps = [self._step_of(message) for message in await self._out.take()]
        self._steps += steps
        return [await asyncio.to_thread(self._prompt.user_part, step.content or "") for step in steps]

    async def _ask(self) -> ModelResponse:
        """One answer that came to its end. Raises `ProviderError`, `TurnInterrupted`.

        It is asked for again when it was our side that failed, and without what the service refuses.
        """
        while True:
            if self._requests >= MOST_REQUESTS:
                sentence = f"'{self._choice.name}' came to no end within {MOST_REQUESTS} requests"
                raise ProviderError(FailureReason.PROVIDER_ERROR, sentence)
            self._requests += 1
            await self._our_side.ready()
            before = len(self._steps)
            try:
                response = await self._ask_once()
            except ProviderError as error:
                again = await self._our_side.has_died(error) or self._prompt.learn(error)
                if not again and not self._may_change_model(error):
                    raise
                # Of the answer that broke off nothing was used but tokens.
                broken, self._steps[before:] = self._steps[before:], []
                self._steps += [Step("assistant", usage=step.usage) for step in broken if step.usage]
                if not again:
                    await self._change_model()
                continue
            self._prompt.was_taken()
            return response

    def _may_change_model(self, error: ProviderError) -> bool:
        """Whether the next model of the list is asked now. Work at a prompt of our own stays with its first one."""
        is_alone_at_work = self._prompt.is_alone and self._requests > 1
        return not is_alone_at_work and self._chain.falls_back(error)

    async def _change_model(self) -> None:
        """The same conversation, with all that this turn has done, for another model. Raises `ProviderError`."""
        before = self._prompt
        self._model, self._choice = await self._model_named(self._chain.current)
        self._prompt = ModelPrompt(self._choice, self._request, self._out, self._setup)
        self._prompt.lessons, self._prompt.refusals = before.lessons, before.refusals
        if before.is_alone:
            self._prompt.messages, self._prompt.is_alone = before.messages, True
        else:
            await asyncio.to_thread(self._prompt.begin, self._history, [*self._kept, *self._steps])

    async def _ask_once(self) -> ModelResponse:
        """One answer, and where the service could not be reached another attempt. Raises `ProviderError`."""
        shown = self._out if isinstance(self._out, Drafting) else None
        for seconds in (*self._retry_seconds, None):
            is_open = False
            try:
                async with model_request_stream(
                    self._model,
                    self._prompt.messages,
                    model_settings=self._settings,
                    model_request_parameters=self._prompt.parameters,
                    instrument=False,
                ) as stream:
                    is_open = True
                    try:
                        async for _ in stream:
                            if shown is not None:
                                shown.draft(lambda: self._so_far + model_history.said_in(stream.get()))
                    finally:
                        self._record(stream.get())
                return self._checked(stream.get())
            except (exceptions.ModelAPIError, exceptions.UnexpectedModelBehavior) as error:
                wait = None
                if not is_open and seconds is not None and isinstance(error, exceptions.ModelAPIError):
                    wait = model_failures.seconds_to_wait(error, seconds)
                if wait is None:
                    raise model_failures.failure_of(error, self._choice, self._clock.now()) from error
            await asyncio.sleep(wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _record(self, response: ModelResponse) -> None:
        """What has come of an answer, as a step."""
        step = model_history.step_of(response)
        if step is not None:
            self._steps.append(step)
        if used := response.usage.input_tokens + response.usage.output_tokens:
            self._context_tokens = used

    def _checked(self, response: ModelResponse) -> ModelResponse:
        """The answer, if it came to its end. Raises `ProviderError`."""
        ending = self._last = ending_of(response)
        if ending is None:
            raise ProviderError(FailureReason.NETWORK, f"the answer of {self._choice.service} broke off")
        if ending.how is How.REFUSED:
            raise ProviderError(*model_failures.refused(self._choice.name), stop_reason=ending.word)
        if ending.how is How.BROKEN:
            sentence = f"{self._choice.service} broke its answer off with an error of its own; try again later"
            raise ProviderError(FailureReason.PROVIDER_ERROR, sentence, stop_reason=ending.word)
        if ending.how is How.FULL and not model_history.said_in(response).strip():
            raise ProviderError(*model_failures.too_long(self._choice.name), stop_reason=ending.word)
        return response

    def _keep(self, *, remembered: bool = True) -> None:
        """Put the steps into the transcript; of those that are not to be remembered only what they used."""
        steps = self._steps
        if not remembered:
            steps = [Step("assistant", usage=step.usage) for step in steps if step.usage]
        if steps:
            self._out.append_steps(steps)
        self._kept += self._steps
        self._steps = []

    def _step_of(self, message: MessageIn) -> Step:
        said = self._request.spoken(message)
        return Step("user", model_images.content_of(message, said, self._request.session))
