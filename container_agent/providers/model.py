"""The provider `model`: any chat model, through `pydantic-ai-slim`, which is imported when the first turn runs.

The agent group's model says which one (`model_names.py`). The history is the transcript, so that a session can go on
with another model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from container_agent.prompt.memory import memory_in
from container_agent.providers import model_control_tasks
from container_agent.providers.model_chain import ModelChain
from container_agent.providers.model_names import ModelChoice, chosen
from container_agent.providers.model_seams import NoWayOut, OnlyTools, SetUpTurn, TurnSetup, WayOut, bare
from container_agent.providers.protocol import ProviderError, Reply, TurnOutput, TurnRequest, TurnResult
from shared_schema import provisions
from shared_schema.clock import Clock, SystemClock
from shared_schema.rows import ControlTask, FailureReason

if TYPE_CHECKING:
    import httpx2
    from pydantic_ai.models import Model

    from container_agent.providers.model_turn import ModelTurn

RETRY_SECONDS = (0.5, 2.0)
SILENT_SECONDS = 300.0
_SMALL_WINDOW = 32_000
_CHARACTERS_OF_TOKEN = 2  # at least, in most languages


class ModelProvider:
    """Asks the model that the context names.

    `environment` holds the URLs and keys of the vendors' SDKs, and is read at every turn. `set_up` gives each turn its
    prompt and its tools, and `way_out` tells a service that fails from a host that went away. `retry_seconds` are the
    waits before a request is made again whose connection failed, and `silent_seconds` is how long a service may say
    nothing.
    """

    name = "model"

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        set_up: SetUpTurn = bare,
        way_out: WayOut | None = None,
        clock: Clock | None = None,
        retry_seconds: Sequence[float] = RETRY_SECONDS,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self._environment: Mapping[str, str] = {} if environment is None else environment
        self._set_up = set_up
        self._way_out = way_out or NoWayOut()
        self._clock = clock or SystemClock()
        self._retry_seconds = retry_seconds
        self._silent_seconds = silent_seconds
        self._client: httpx2.AsyncClient | None = None
        self._models: dict[ModelChoice, Model] = {}

    async def run(self, request: TurnRequest, out: TurnOutput) -> TurnResult:
        """One turn. Raises `ProviderError`."""
        setup = await self._set_up(request, out)
        turn = await self._turn(request, out, setup)
        try:
            return await turn.run(request.history())
        except asyncio.CancelledError:  # an SDK may leave the connection of an unfinished answer open
            await self.aclose()
            raise

    async def summarize(self, request: TurnRequest, purpose: ControlTask, out: TurnOutput) -> TurnResult:
        """A title or a summary, without tools. Raises `ProviderError`."""
        turn = await self._turn(request, out, TurnSetup())
        most = _CHARACTERS_OF_TOKEN * (turn.window or _SMALL_WINDOW)
        try:
            result = await turn.answer(model_control_tasks.prompt(purpose, request.history(), most))
        except ProviderError as error:
            raise model_control_tasks.failed(error) from error
        replies = [Reply(model_control_tasks.tidied(purpose, reply.text)) for reply in result.replies]
        return replace(result, replies=replies)

    async def remember(self, request: TurnRequest, out: TurnOutput) -> TurnResult:
        """Save to memory what is worth it, with the tools for files alone. Raises `ProviderError`."""
        quiet = replace(request, context=replace(request.context, tool_servers=""))
        setup = await self._set_up(quiet, out)
        tools = OnlyTools(setup.toolbox, model_control_tasks.TOOLS_TO_REMEMBER)
        if not tools.definitions:
            return TurnResult()
        turn = await self._turn(request, out, TurnSetup(toolbox=tools))
        memory = await asyncio.to_thread(memory_in, request.workspace)
        return await turn.work(
            model_control_tasks.to_remember(request.history(), memory),
            most=model_control_tasks.MOST_REQUESTS_TO_REMEMBER,
            max_tokens=model_control_tasks.MOST_TOKENS_TO_REMEMBER,
        )

    async def aclose(self) -> None:
        """Close all connections: those kept for the next turn, and one whose answer was not heard to its end."""
        client, self._client = self._client, None
        self._models.clear()
        if client is not None:
            await client.aclose()

    async def _turn(self, request: TurnRequest, out: TurnOutput, setup: TurnSetup) -> ModelTurn:
        chain = ModelChain.of(request.context)

        async def model_named(name: str) -> tuple[Model, ModelChoice]:
            choice = chosen(name, self._environment)
            return await asyncio.to_thread(self._model, choice), choice  # what it imports takes seconds

        model, choice = await model_named(chain.current)
        from container_agent.providers.model_turn import ModelTurn

        return ModelTurn(
            model,
            choice,
            request,
            out,
            setup,
            clock=self._clock,
            retry_seconds=self._retry_seconds,
            way_out=self._way_out,
            chain=chain,
            model_named=model_named,
        )

    def _model(self, choice: ModelChoice) -> Model:
        if choice not in self._models:
            try:
                from container_agent.providers import model_client, model_turn  # noqa: F401
            except ImportError as error:
                raise ProviderError(FailureReason.BAD_INPUT, provisions.missing("model")) from error
            if self._client is None:
                self._client = model_client.http_client(self._silent_seconds, self._environment)
            self._models[choice] = model_client.model_of(choice, self._client)
        return self._models[choice]
