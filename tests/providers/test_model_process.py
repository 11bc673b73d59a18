"""The provider `model` in real agent processes, under a real host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from host.routing.event import Edited
from shared_schema.rows import Address
from tests.platforms.model_answer import Answer, ToolUse
from tests.platforms.model_server import ModelServer
from tests.providers.subjects import MODELS
from tests.support.host import AGENT, Host, rows, running
from tests.support.wait import ENDS_WITHIN, until

ROOT = Path(__file__).resolve().parents[2]


@asynccontextmanager
async def host_with_model(data: Path, server: ModelServer) -> AsyncIterator[Host]:
    """A host whose agent asks the fake server, through the host's gateway; the host has a key for it."""
    upstreams = {
        "anthropic": {"url": server.url, "key": "sk-of-anthropic"},
        "openai": {"url": f"{server.url}/v1", "key": "sk-of-openai"},
    }
    async with running(data, provider="model", upstreams=upstreams) as host:
        await host.do("agent_group.set", name=AGENT, model=MODELS["anthropic"])
        yield host


async def test_a_conversation_with_a_failure_a_stop_and_a_crash(tmp_path: Path, server: ModelServer) -> None:
    """In one go, because importing the SDKs takes seconds in every new process."""
    async with host_with_model(tmp_path, server) as host:
        assert await host.ask("say hello") == "hello"
        await host.do("agent_group.set", name=AGENT, model=MODELS["openai"])
        assert await host.ask('call add {"a": 1}\nthen\nsay done') == "done"
        assert "hello" in str(server.requests[1].messages)
        await _edit_in_mid_turn(host, server)
        assert "refused the key" in await host.ask("bad-key")
        await host.settled()
        (used,) = await host.central("SELECT sum(input_tokens) AS input, sum(output_tokens) AS output FROM turns")
        assert (used["input"], used["output"]) == (server.used.input, server.used.output)
        await _stop_in_mid_answer(host, server)
        await _kill_in_mid_answer(host, server)
    assert [request.path for request in server.requests] == ["/v1/messages", *8 * ["/v1/chat/completions"]]
    assert [request.key for request in server.requests] == ["sk-of-anthropic", *8 * ["sk-of-openai"]]


async def _edit_in_mid_turn(host: Host, server: ModelServer) -> None:
    """A person corrects the question while a tool runs for it: the model sees that with the tool's result."""
    asked, gate = len(server.requests), host.services.settings.layout.agents / AGENT / "gate"
    command = "until [ -e gate ]; do sleep 0.05; done; echo open"
    server.next(Answer(calls=(ToolUse("bash", {"command": command}),)), Answer(text="one and three are four"))
    await host.say("what are one and two?", message_id="sum")
    await until(lambda: len(server.requests) > asked and server.requests[asked].ended.is_set(), "the model has called")
    # Until the host knows that a turn has taken it, the message waits for the host, and an edit takes its place.
    taken = "SELECT 1 FROM ingest WHERE platform_message_id = 'sum' AND turn_id IS NOT NULL"
    await until(lambda: host.central(taken), "the host knows the turn")
    await host.channel.receive(Edited(Address("memory", "one"), "sum", "what are one and three?", "ann"))
    inbound = (await host.session()).inbound
    written = "SELECT 1 FROM messages_in WHERE instr(content, 'edited: what are one and three?')"
    await until(lambda: rows(inbound, written), "the agent's file has the edit")
    gate.touch()
    await until(lambda: "one and three are four" in host.texts(), "it is answered", 60)
    assert len(server.requests) == asked + 2
    assert "edited: what are one and three?" not in str(server.requests[asked].messages)
    assert "edited: what are one and three?" in str(server.requests[asked + 1].messages)


async def _stop_in_mid_answer(host: Host, server: ModelServer) -> None:
    """The turn is over within two seconds, and what was said is kept."""
    asked = len(server.requests)
    await host.say("endless")
    await until(lambda: len(server.requests) > asked and server.requests[-1].sent_pieces > 8, "it is talking")
    began = time.monotonic()
    await host.say("/stop")
    session = await host.session()
    ended = "SELECT id FROM turns WHERE status = 'cancelled' AND failure_reason = 'stopped'"
    (turn,) = await until(lambda: rows(session.outbound, ended), "the turn is over")
    assert time.monotonic() - began < ENDS_WITHIN
    await until(server.requests[-1].ended.is_set, "the service is left alone")
    kept = rows(session.outbound, "SELECT role, content FROM steps WHERE turn_id = ? ORDER BY seq", turn["id"])
    assert [step["role"] for step in kept] == ["user", "assistant"]
    assert "half of it" in kept[1]["content"]


async def _kill_in_mid_answer(host: Host, server: ModelServer) -> None:
    """The next agent answers, and asks as if the first one had not begun."""
    asked = len(server.requests)
    await host.say("stream 100 0.02 " + "and so on " * 40)
    await until(lambda: len(server.requests) > asked and server.requests[-1].sent_pieces > 4, "it is talking")
    (pid,) = [
        process.pid
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE and "container_agent" in process.cmdline()
    ]
    os.kill(pid, signal.SIGKILL)
    await until(lambda: any(text.startswith("and so on") for text in host.texts()), "it is answered", 60)
    last = str(server.requests[-1].messages)
    assert "hello" in last
    assert last.count("stream 100") == 1


def test_an_idle_agent_has_imported_nothing_of_it() -> None:
    script = (
        "import sys, container_agent.__main__\n"
        "from container_agent.providers import load; load('echo')\n"
        "print([name for name in ('pydantic', 'pydantic_ai', 'anthropic', 'openai', 'httpx2') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
