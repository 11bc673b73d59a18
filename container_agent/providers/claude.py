"""The provider `claude`: the Claude Agent SDK with its own tools, in an image that has it (docs/claude.md).

A turn starts the SDK's program and ends it, with all that it has started. The program keeps the conversation in the
session's `out/.claude`, and goes on with it by its session id; where it cannot, it begins afresh with what the
transcript knows.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from container_agent.prompt.memory import memory_in
from container_agent.providers import claude_options, model_control_tasks
from container_agent.providers.claude_conversation import ClaudeConversation
from container_agent.providers.claude_sdk import sdk
from container_agent.providers.claude_tools import OWN
from container_agent.providers.claude_turn import ClaudeTurn
from container_agent.providers.model_chain import ModelChain
from container_agent.providers.model_seams import NoWayOut, SetUpTurn, WayOut, bare
from container_agent.providers.protocol import ProviderError, Reply, TurnOutput, TurnRequest, TurnResult
from container_agent.tools.server import NAME, mcp_server
from container_agent.tools.toolbox import Toolbox
from shared_schema.rows import ControlTask

_OF_FILES = ("Edit", "Read", "Write")
_SUMMARY_CHARACTERS = 400_000
_ERRAND = "You do what you are asked to do with a text, and answer with the result alone."


class ClaudeProvider:
    """Runs the SDK.

    `environment` holds the URL of the model service, and is read at every turn. `set_up` gives each turn its prompt and
    its tools, of which those for files, programs and the web are to be left out: the SDK brings its own. `way_out`
    tells a service that fails from a host that went away.
    """

    name = "claude"

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        set_up: SetUpTurn = bare,
        way_out: WayOut | None = None,
    ) -> None:
        self._environment: Mapping[str, str] = {} if environment is None else environment
        self._set_up = set_up
        self._way_out = way_out or NoWayOut()

    async def run(self, request: TurnRequest, out: TurnOutput) -> TurnResult:
        """One turn. Raises `ProviderError`."""
        library = await asyncio.to_thread(sdk)
        setup = await self._set_up(request, out)
        chain = ModelChain.of(request.context)
        turn = ClaudeTurn(request, out, self._way_out, chain)
        servers: dict[str, Any] = {}
        if isinstance(setup.toolbox, Toolbox):
            turn.watch.guard = setup.toolbox.guard
            servers[NAME] = {"type": "sdk", "name": NAME, "instance": mcp_server(setup.toolbox)}
        prompt = "\n\n".join(text for text in (setup.instructions, setup.notes) if text.strip())

        def talk(resume: str) -> ClaudeConversation:
            hooks = turn.watch.hooks(library.HookMatcher)
            return self._talk(
                library,
                request,
                chain.current,
                resume,
                prompt=prompt,
                tools=OWN,
                mcp_servers=servers,
                hooks=hooks,
                resume=resume or None,
            )

        return await turn.run(talk)

    async def summarize(self, request: TurnRequest, purpose: ControlTask, out: TurnOutput) -> TurnResult:
        """A title or a summary, without tools; nothing of it is remembered. Raises `ProviderError`."""
        library = await asyncio.to_thread(sdk)
        once = {"max_turns": 1, "extra_args": {"no-session-persistence": None}}
        text = model_control_tasks.prompt(purpose, request.history(), most=_SUMMARY_CHARACTERS)
        chain = ModelChain.of(request.context)
        turn = ClaudeTurn(replace(request, messages=(), resume="", recorded=tuple), out, self._way_out, chain)
        try:
            result = await turn.run(
                lambda _: self._talk(library, request, chain.current, request.resume, prompt=_ERRAND, tools=(), **once),
                asked=text,
            )
        except ProviderError as error:
            raise model_control_tasks.failed(error) from error
        replies = [Reply(model_control_tasks.tidied(purpose, reply.text)) for reply in result.replies]
        return TurnResult(replies=replies, usage=result.usage, model=result.model, fallback=result.fallback)

    async def remember(self, request: TurnRequest, out: TurnOutput) -> TurnResult:
        """Save to memory what is worth it, with the SDK's tools for files; its own record of it is not kept.

        Raises `ProviderError`.
        """
        library = await asyncio.to_thread(sdk)
        once = {
            "max_turns": model_control_tasks.MOST_REQUESTS_TO_REMEMBER,
            "extra_args": {"no-session-persistence": None},
        }
        memory = await asyncio.to_thread(memory_in, request.workspace)
        chain = ModelChain.of(request.context)
        turn = ClaudeTurn(replace(request, messages=(), resume="", recorded=tuple), out, self._way_out, chain)
        result = await turn.run(
            lambda _: self._talk(
                library, request, chain.current, request.resume, prompt=_ERRAND, tools=_OF_FILES, **once
            ),
            asked=model_control_tasks.to_remember(request.history(), memory),
        )
        return TurnResult(usage=result.usage)

    def _talk(self, library: Any, request: TurnRequest, model: str, keep: str, **chosen: Any) -> ClaudeConversation:
        choice = claude_options.chosen(model, self._environment)
        folder = claude_options.prepare(request.session, keep)
        options = claude_options.options(library, request, choice, self._environment, folder, **chosen)
        return ClaudeConversation(library, options, choice, mark=secrets.token_hex(16))
