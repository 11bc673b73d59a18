"""What the model provider needs of others, as Protocols: the prompt, the tools, what comes in while it works."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import field
from typing import Any, Protocol, runtime_checkable

from container_agent.providers.protocol import Reply, TurnOutput, TurnRequest
from shared_schema.dataclass import dataclass
from shared_schema.rows import MessageIn


class ToolDefinition(Protocol):
    """What a model is told of a tool. `parameters` is the JSON schema of an object."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def parameters(self) -> Mapping[str, Any]: ...


class CallableTools(Protocol):
    """The tools of one turn."""

    @property
    def definitions(self) -> Sequence[ToolDefinition]:
        """The tools, in an order that stays the same from turn to turn."""

    async def call(self, name: str, arguments: object, call_id: str = "") -> str:
        """The result of a call, as text; why there is none, as text too. `arguments` is an object or JSON text.

        Keeps the time limit of the tool, and says through `TurnOutput.set_tool` that it runs.
        """


@runtime_checkable
class Incoming(Protocol):
    """A `TurnOutput` that can also give the turn what came in meanwhile."""

    async def take(self) -> Sequence[MessageIn]:
        """The messages that came in since the turn began or since the last call; they now are the turn's as well."""


@runtime_checkable
class Drafting(Protocol):
    """A `TurnOutput` that can also show an answer while it is being written."""

    def draft(self, text: Callable[[], str]) -> None:
        """Show how far an answer has come. May be called for every word: `text` is asked only when it is time."""


@runtime_checkable
class Speaking(Protocol):
    """A `TurnOutput` that knows what the turn has sent so far."""

    @property
    def sent(self) -> Sequence[Reply]:
        """The messages, in order."""


@runtime_checkable
class Memo(Protocol):
    """A `TurnOutput` that keeps what a provider has learned, for later turns of the session."""

    def recall(self, name: str) -> str:
        """What was kept under that name; empty when nothing was."""

    def remember(self, name: str, text: str) -> None:
        """Keep it."""


@runtime_checkable
class Pausing(Protocol):
    """A `TurnOutput` whose time can stand still."""

    def paused(self, why: str, seconds: float) -> AbstractContextManager[None]:
        """While the block lasts, at most so many seconds, the turn's time does not run; `why` is what it waits for."""


class WayOut(Protocol):
    """The agent's way to the host's gateway."""

    async def mark(self) -> str | None:
        """Which gateway answers now: a text that every restart of the host changes. None when none does."""

    async def back(self, seconds: float) -> str | None:
        """Wait for a gateway that answers; its mark, or None when none came in time."""


class NoWayOut:
    """For an agent that calls services without a gateway: what fails is the service."""

    async def mark(self) -> str | None:
        return ""

    async def back(self, seconds: float) -> str | None:
        return ""


class NoTools:
    """A toolbox without anything in it."""

    definitions: Sequence[ToolDefinition] = ()

    async def call(self, name: str, arguments: object, call_id: str = "") -> str:
        return f"Error: there is no tool '{name[:80]}'"


class OnlyTools:
    """Some of the tools of another toolbox, by their names."""

    def __init__(self, toolbox: CallableTools, names: Collection[str]) -> None:
        self._toolbox = toolbox
        self.definitions: Sequence[ToolDefinition] = [each for each in toolbox.definitions if each.name in names]

    async def call(self, name: str, arguments: object, call_id: str = "") -> str:
        if all(name != each.name for each in self.definitions):
            return f"Error: there is no tool '{name[:80]}'"
        return await self._toolbox.call(name, arguments, call_id)


@dataclass(frozen=True, slots=True)
class TurnSetup:
    """What a turn has besides its messages.

    `instructions` come first and should have the same bytes from turn to turn, for the vendor's prompt cache; `notes`
    come behind them and may change. Both may be empty.
    """

    instructions: str = ""
    notes: str = ""
    toolbox: CallableTools = field(default_factory=NoTools)


SetUpTurn = Callable[[TurnRequest, TurnOutput], Awaitable[TurnSetup]]


async def bare(request: TurnRequest, out: TurnOutput) -> TurnSetup:
    """The least: what the host says about the session, and the note. No tools."""
    return TurnSetup(request.context.context, request.note)
