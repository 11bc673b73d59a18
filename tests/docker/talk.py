"""A conversation with an agent in a container: what is said in it, and what has come back.

`Tongue` is how a provider and its wire format are spoken to: the fake model server does what the words of a message
say (`tests/platforms/model_answer.py`), and the tools that it is to call have other names for each provider.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from host.sessions.attachments import Attachment
from tests.platforms.model_answer import Answer
from tests.platforms.model_server import ModelServer, Request
from tests.support.host import Host, rows
from tests.support.wait import until

_SECONDS = 60.0
"""For one answer: the first one of an agent has to load the vendors' libraries."""

Tool = Callable[..., str]


@dataclass(frozen=True, slots=True)
class Tongue:
    """A provider with a model, and the words for calls of its tools."""

    name: str
    provider: str
    model: str
    run: Tool
    read: Tool
    write: Tool
    edit: Tool
    files: str
    """the call that lists the files of the workspace"""
    ours: str
    """what stands before the names of our own tools"""
    refusals: int = 1
    """how often a service has to refuse before the turn fails"""
    tells_at_once: bool = True
    """whether the service says at the beginning of an answer what the request took"""
    notes_each_call: bool = True
    """whether what a call used is written down when it is over, and not only at the end of the turn"""

    def call(self, tool: str, **arguments: object) -> str:
        """The words for a call of one of our own tools, which every provider has."""
        return call(f"{self.ours}{tool}", **arguments)


def call(tool: str, **arguments: object) -> str:
    """The words for a call."""
    return f"call {tool} {json.dumps(arguments)}"


def then(*answers: str) -> str:
    """The words for several answers of the model, one after the other, in one turn."""
    return "\nthen\n".join(answers)


def _model(name: str, model: str, *, tells_at_once: bool) -> Tongue:
    return Tongue(
        name,
        "model",
        model,
        run=lambda command: call("bash", command=command),
        read=lambda path: call("read_file", path=path),
        write=lambda path, content: call("write_file", path=path, content=content),
        edit=lambda path, old, new: call("edit_file", path=path, old=old, new=new),
        files=call("list_files"),
        ours="",
        tells_at_once=tells_at_once,
    )


MESSAGES = _model("Anthropic Messages", "anthropic:claude-sonnet-5-5", tells_at_once=True)
COMPLETIONS = _model("OpenAI Chat Completions", "openai:gpt-4o", tells_at_once=False)
CLAUDE = Tongue(
    "the Claude Agent SDK",
    "claude",
    "claude-sonnet-5-5",
    run=lambda command: call("Bash", command=command),
    read=lambda path: call("Read", file_path=f"/workspace/{path}"),
    write=lambda path, content: call("Write", file_path=f"/workspace/{path}", content=content),
    edit=lambda path, old, new: call("Edit", file_path=f"/workspace/{path}", old_string=old, new_string=new),
    files=call("Bash", command="ls"),
    ours="mcp__dumbwaiter__",
    refusals=2,
    notes_each_call=False,
)


@dataclass(slots=True)
class Talk:
    """Says things in the chat `one` of a host, in order. `heard` has what came back, `outcomes` what must become of
    each message that was accepted.
    """

    host: Host
    server: ModelServer
    tongue: Tongue
    heard: list[str] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)

    async def ask(self, text: str, *, files: Sequence[Attachment] = (), outcome: str = "completed") -> str:
        """Say something, and wait for its one answer and its outcome."""
        message_id = await self.say(text, files=files, outcome=outcome)
        answer = await self.hear()
        assert await self.host.outcome(message_id) == outcome
        return answer

    async def say(self, text: str, *, files: Sequence[Attachment] = (), outcome: str = "completed") -> str:
        """Say something; the id of the message. What becomes of it is looked at in the end."""
        (accepted,) = (await self.host.say(text, files=files)).accepted
        self.outcomes[accepted.message_id] = outcome
        return accepted.message_id

    async def hear(self) -> str:
        """Wait for the next thing that is said."""
        sent = await self.host.channel.wait_for(len(self.heard) + 1, _SECONDS)
        self.heard.append(sent[len(self.heard)].text)
        return self.heard[-1]

    async def uses_tool(self) -> None:
        """Wait until a tool runs."""
        await until(lambda: self.out("SELECT 1 FROM agent_state WHERE current_tool IS NOT NULL"), "a tool runs")

    async def answering(self, answer: Answer) -> Request:
        """Wait until this answer, which the server was told, streams in; the request it is for."""

        def streaming() -> Request | None:
            request = self.server.requests[-1]
            is_this = request.answer is answer and not request.ended.is_set()
            return request if is_this and request.sent_pieces > 8 else None

        return await until(streaming, "it is talking", _SECONDS)

    async def out(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Rows of the session's `outbound.db`."""
        return rows((await self.host.session()).outbound, statement, *parameters)

    async def container(self) -> str:
        """The id of the agent's container."""
        (handle,) = await self.host.services.runtime.list()
        return handle.reference

    @property
    def told(self) -> str:
        """The messages that the model was told last, as JSON."""
        return json.dumps(self.server.requests[-1].messages)


async def docker(*arguments: str) -> str:
    """What a command of docker's prints."""
    done = await asyncio.to_thread(subprocess.run, ["docker", *arguments], capture_output=True, text=True, check=True)
    return done.stdout
