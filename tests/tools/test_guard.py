"""A call that waits for a yes: asked of the host, waited for within its limit, and made, refused or left."""

from __future__ import annotations

import asyncio
import json

from container_agent.tools.guard import Guard
from container_agent.tools.tool import Arguments, Tool
from container_agent.tools.toolbox import Toolbox
from shared_schema.rows import encode
from tests.support.wait import until
from tests.tools.bench import Turn


class Pressed:
    """A tool that counts its calls, behind a guard that waits for a second."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.times = 0
        form = {"type": "object", "properties": {"command": {"type": "string"}}}
        guard = Guard(turn.tool_context, ["press:red*"], wait_seconds=1)
        self.box = Toolbox([Tool("press", "Presses a button.", form, self._press)], turn.out.set_tool, guard)

    async def _press(self, arguments: Arguments) -> str:
        self.times += 1
        return "pressed"

    async def call(self, command: str = "red button", **answer: object) -> asyncio.Task[str]:
        """A call that the host has answered so."""
        count = len(self.turn.out.sent)
        call = asyncio.create_task(self.box.call("press", {"command": command}))
        await until(lambda: len(self.turn.out.sent) > count, "the host is asked")
        self.turn.answer(self.turn.out_rows()[-1]["id"], result=[answer])
        return call

    def decided(self, state: str) -> None:
        """A person has decided the approval `apr_1`."""
        content = encode({"text": "decided", "approval": "apr_1", "state": state, "by": "memory:ann"})
        self.turn.session.say("", kind="agent", content=content)


async def test_a_call_that_no_rule_names_asks_for_nothing(turn: Turn) -> None:
    pressed = Pressed(turn)
    assert await pressed.box.call("press", {"command": "green"}) == "pressed"
    assert turn.out.sent == []


async def test_a_yes_in_time_lets_the_call_be_made_and_is_taken_by_the_turn(turn: Turn) -> None:
    pressed = Pressed(turn)
    call = await pressed.call(state="asked", approval="apr_1", code="K7Q2MX")
    pressed.decided("approved")
    assert await call == "pressed"
    assert [message.text for message in turn.taken] == ["decided"]
    asked = turn.out_rows()[0]["content"]["arguments"]
    assert (asked["tool"], json.loads(asked["arguments"])) == ("press", {"command": "red button"})
    assert "waiting for a yes to press" in [name for name, _ in turn.out.named]


async def test_a_no_and_what_is_not_decided_in_time_leave_the_call_unmade(turn: Turn) -> None:
    pressed = Pressed(turn)
    call = await pressed.call(state="asked", approval="apr_1", code="K7Q2MX")
    assert "needs a yes (approval K7Q2MX), which has not come yet" in await call
    call = await pressed.call(state="asked", approval="apr_1", code="K7Q2MX")
    pressed.decided("denied")
    assert await call == "Error: memory:ann said no to this call; it is not made"
    assert pressed.times == 0


async def test_the_same_call_asks_under_the_same_name_and_a_grant_lets_it_through(turn: Turn) -> None:
    pressed = Pressed(turn)
    assert await (await pressed.call(state="approved")) == "pressed"
    assert await (await pressed.call(state="denied", by="memory:ann")) != "pressed"
    assert await (await pressed.call("red light", state="approved")) == "pressed"
    calls = [row["content"]["arguments"]["call"] for row in turn.out_rows()]
    assert calls[0] == calls[1] != calls[2]


async def test_a_call_that_cannot_be_shown_whole_is_refused(turn: Turn) -> None:
    pressed = Pressed(turn)
    assert "longer than 1,900 characters" in await pressed.box.call("press", {"command": "red" * 1_000})
    assert turn.out.sent == []
