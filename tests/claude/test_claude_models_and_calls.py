"""Under the SDK as well: the next model answers when the service refuses, and calls wait for a yes."""

from __future__ import annotations

import json
from typing import Any, cast

from container_agent.providers.claude import ClaudeProvider
from container_agent.providers.model_seams import TurnSetup
from container_agent.providers.protocol import TurnOutput, TurnRequest
from container_agent.tools.guard import Guard
from container_agent.tools.tool import Arguments, ToolRefused
from container_agent.tools.toolbox import Toolbox
from tests.agent.session import BareSession
from tests.claude.conftest import MODEL
from tests.platforms.model_answer import Answer, Fault
from tests.platforms.model_server import ModelServer
from tests.providers.agent import living
from tests.support.wait import until

OTHER = "claude-haiku-4-5"


async def test_the_next_model_answers_when_the_service_refuses(
    installed: None, session: BareSession, environment: dict[str, str], server: ModelServer
) -> None:
    provider = ClaudeProvider(environment)
    async with living(session, provider, model=MODEL, fallbacks=json.dumps([OTHER])) as agent:
        server.next(Answer(fault=Fault.OVERLOADED))
        asked = agent.say("say hello")  # two programs are started, one after the other
        done = "SELECT 1 FROM processing_ack WHERE message_id = ? AND status <> 'processing'"
        await until(lambda: session.out(done, (asked,)), "it is answered", 120)
        outcome = await agent.outcome(asked)
        assert (outcome.replies, outcome.error) == (["hello"], None)
        assert (outcome.turn["model"], outcome.turn["fallback"]) == (OTHER, "anthropic is overloaded; try again later")
        again = await agent.ask("say bye")
    assert (again.turn["model"], again.turn["fallback"]) == (MODEL, None)


class Person(Guard):
    """Says no to some calls."""

    async def permit(self, name: str, arguments: Arguments) -> None:
        if "secret" in str(arguments):
            raise ToolRefused("ann said no to this call")


async def test_its_own_tools_wait_for_a_yes(installed: None, session: BareSession, environment: dict[str, str]) -> None:
    async def set_up(request: TurnRequest, out: TurnOutput) -> TurnSetup:
        return TurnSetup(toolbox=Toolbox([], out.set_tool, Person(cast(Any, None), ["bash:touch *"])))

    async with living(session, ClaudeProvider(environment, set_up=set_up), model=MODEL) as agent:
        await agent.ask(
            'call Bash {"command": "touch secret"}\nthen\ncall Bash {"command": "touch plain"}\nthen\nsay done'
        )
        results = [step["content"] for step in agent.steps() if step["role"] == "tool"]
    assert "ann said no to this call" in results[0]
    assert sorted(path.name for path in session.workspace.iterdir()) == ["plain"]
