"""One turn of a model: ask it, call the tools it wants, ask again, until it has nothing more to call.

Invariants: whatever ends a turn, what was said and used until then is in the transcript; a request is repeated only
while nothing of its answer has come; a turn makes a bounded number of requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic_ai import exceptions
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import (
    InstructionPart,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from container_agent.providers import model_failures, model_history, model_images
from container_agent.providers.model_names import ModelChoice, usual_window
from container_agent.providers.model_seams import Drafting, Equipment, Incoming
from container_agent.providers.protocol import ProviderError, Reply, Step, TurnOutput, TurnRequest, TurnResult
from shared_schema.clock import Clock
from shared_schema.rows import FailureReason, MessageIn

MOST_REQUESTS = 50


class ModelTurn:
    """Runs once. `retry_seconds` are the waits before a request is made again whose connection failed."""

    def __init__(
        self,
        model: Model,
        choice: ModelChoice,
        request: TurnRequest,
        out: TurnOutput,
        equipment: Equipment,
        *,
        clock: Clock,
        retry_seconds: Sequence[float],
    ) -> None:
        self._model = model
        self._choice = choice
        self._request = request
        self._out = out
        self._toolbox = equipment.toolbox
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._settings = ModelSettings(cache=True, max_retries=0)
        self._parameters = ModelRequestParameters(
            function_tools=[
                ToolDefinition(
                    name=tool.name, description=tool.description, parameters_json_schema=dict(tool.parameters)
                )
                for tool in equipment.toolbox.definitions
            ],
            instruction_parts=[
                InstructionPart(content=text, dynamic=is_dynamic)
                for text, is_dynamic in ((equipment.instructions, False), (equipment.notes, True))
                if text.strip()
            ],
        )
        self._messages: list[ModelMessage] = []
        self._steps: list[Step] = []  # not in the transcript yet
        self._context_tokens: int | None = None

    @property
    def window(self) -> int | None:
        """How many tokens the model takes; None when nobody knows."""
        return self._model.context_window or usual_window(self._choice)

    async def run(self, history: Sequence[Step]) -> TurnResult:
        """The whole turn. Raises `ProviderError`."""
        self._steps += [self._step_of(message) for message in self._request.messages]
        steps = [*history, *self._steps]
        self._messages = await asyncio.to_thread(model_history.messages_of, steps, self._request.session)
        try:
            text = await self._converse()
        except ProviderError as error:
            self._keep(remembered=error.is_to_be_remembered)
            raise
        except BaseException:  # stopped, out of time, or a mistake of ours: it goes on from here
            self._keep()
            raise
        return TurnResult(
            replies=[Reply(text)] if text else [],
            steps=self._steps,
            context_tokens=self._context_tokens,
            context_window=self.window,
        )

    async def answer(self, prompt: str) -> TurnResult:
        """The answer to a prompt of the agent's own; nothing of it is remembered. Raises `ProviderError`."""
        self._messages = [ModelRequest([UserPromptPart(model_history.whole(prompt))])]
        try:
            text = model_history.said_in(await self._ask()).strip()
        finally:
            self._keep()
        return TurnResult(replies=[Reply(text)] if text else [])

    async def work(self, prompt: str, *, most: int, max_tokens: int) -> TurnResult:
        """Work at a prompt of the agent's own with the tools, in at most `most` requests of `max_tokens` each.

        Nothing of it is remembered. Raises `ProviderError`.
        """
        self._messages = [ModelRequest([UserPromptPart(model_history.whole(prompt))])]
        self._settings["max_tokens"] = max_tokens
        try:
            for _ in range(most):
                response = await self._ask()
                calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
                if not calls:
                    break
                self._messages += [response, ModelRequest([*await self._results(calls)])]
        finally:
            self._keep()
        return TurnResult()

    async def _converse(self) -> str:
        """Ask until an answer calls no tool. Returns the last words, maybe of an earlier answer, or none."""
        said = ""
        for number in range(MOST_REQUESTS):
            response = await self._ask()
            said = model_history.said_in(response).strip() or said
            calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
            if not calls:
                if not said and number == 0:
                    raise ProviderError(FailureReason.PROVIDER_ERROR, f"'{self._choice.name}' had nothing to say")
                return said
            self._keep()
            self._messages += [response, ModelRequest([*await self._results(calls), *await self._news()])]
        sentence = f"'{self._choice.name}' came to no end within {MOST_REQUESTS} requests"
        raise ProviderError(FailureReason.PROVIDER_ERROR, sentence)

    async def _results(self, calls: Sequence[ToolCallPart]) -> list[ToolReturnPart]:
        """Carry out the calls, one after the other."""
        results = []
        for call in calls:
            arguments = call.args if call.args else "{}"
            text = model_history.whole(await self._toolbox.call(call.tool_name, arguments, call.tool_call_id))
            results.append(ToolReturnPart(call.tool_name, text, call.tool_call_id))
            self._steps.append(Step("tool", text, tool_name=call.tool_name, tool_call_id=call.tool_call_id))
        return results

    async def _news(self) -> list[UserPromptPart]:
        """What people have said meanwhile."""
        if not isinstance(self._out, Incoming):
            return []
        steps = [self._step_of(message) for message in await self._out.take()]
        self._steps += steps
        session = self._request.session
        return [await asyncio.to_thread(model_history.user_part, step.content or "", session) for step in steps]

    async def _ask(self) -> ModelResponse:
        """One answer, whole. Raises `ProviderError`."""
        shown = self._out if isinstance(self._out, Drafting) else None
        for seconds in (*self._retry_seconds, None):
            is_open = False
            try:
                async with model_request_stream(
                    self._model,
                    self._messages,
                    model_settings=self._settings,
                    model_request_parameters=self._parameters,
                    instrument=False,
                ) as stream:
                    is_open = True
                    try:
                        async for _ in stream:
                            if shown is not None:
                                shown.draft(lambda: model_history.said_in(stream.get()))
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
        if response.finish_reason == "content_filter":
            raise ProviderError(*model_failures.refused(self._choice.name))
        if response.finish_reason is None or response.state != "complete":
            sentence = f"the answer of {self._choice.service} broke off"
            raise ProviderError(FailureReason.NETWORK, sentence)
        if response.finish_reason == "length" and not response.parts:
            raise ProviderError(FailureReason.PROVIDER_ERROR, f"the answer of '{self._choice.name}' became too long")
        return response

    def _keep(self, *, remembered: bool = True) -> None:
        """Put the steps into the transcript; of those that are not to be remembered only what they used."""
        steps = self._steps
        if not remembered:
            steps = [Step("assistant", usage=step.usage) for step in steps if step.usage]
        if steps:
            self._out.append_steps(steps)
        self._steps = []

    def _step_of(self, message: MessageIn) -> Step:
        said = self._request.spoken(message)
        return Step("user", model_images.content_of(message, said, self._request.session))
