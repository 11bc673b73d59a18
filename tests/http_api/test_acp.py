"""`dumbwaiter acp`, by the client of the Agent Client Protocol that editors in Python use."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from host.api.server import ApiServer
from tests.support.daemon import COMMAND
from tests.support.host import AGENT, Host, running
from tests.support.sdks import Later
from tests.support.wait import until

if TYPE_CHECKING:
    import acp
else:
    acp = Later("acp")


@dataclass
class Editor:
    """An editor, and what it was told."""

    told: list[Any] = field(default_factory=list)

    async def session_update(self, session_id: str, update: Any, **more: Any) -> None:
        """Keep what is told."""
        self.told.append(update)

    def on_connect(self, conn: Any) -> None:
        """Nothing is asked of the agent by itself."""

    def text(self, kind: str = "agent_message_chunk") -> str:
        """What was said, all pieces of it."""
        return "".join(each.content.text for each in self.told if each.session_update == kind)


@asynccontextmanager
async def editing(host: Host, *arguments: str) -> AsyncIterator[tuple[Editor, Any]]:
    """An editor that has begun to talk with `dumbwaiter acp`."""
    editor = Editor()
    data = str(host.services.settings.data)
    patient = {"shutdown_timeout": 60.0}  # the process may need a while to end on a busy machine
    command = ("--data", data, "acp", *arguments)
    async with acp.spawn_agent_process(editor, COMMAND, *command, transport_kwargs=patient) as (agent, _):  # type: ignore[arg-type]
        done = await agent.initialize(protocol_version=acp.PROTOCOL_VERSION)
        assert done.agent_capabilities.load_session
        yield editor, agent


@asynccontextmanager
async def listening(data: Path) -> AsyncIterator[Host]:
    """A host that commands can call."""
    async with running(data) as host:
        server = ApiServer(host.services)
        await server.start()
        try:
            yield host
        finally:
            await server.close()


async def test_an_editor_asks_is_told_as_it_is_written_and_takes_up_what_was_said(tmp_path: Path) -> None:
    async with listening(tmp_path) as host:
        async with editing(host, AGENT) as (editor, agent):
            session = (await agent.new_session(cwd=str(tmp_path), mcp_servers=[])).session_id
            blocks = [acp.text_block("write 0.3 one two three\ntool grep 0.5")]
            done = await agent.prompt(session_id=session, prompt=blocks)
            assert done.stop_reason == "end_turn"
            assert editor.text() == "one two three\n\ngrep is done"
            assert len([each for each in editor.told if each.session_update == "agent_message_chunk"]) > 2
            await agent.prompt(session_id=session, prompt=[acp.text_block("recall")])
            assert "write 0.3" in editor.text()
        async with editing(host) as (editor, agent):  # there is one agent, which need not be named
            await agent.load_session(cwd=str(tmp_path), session_id=session, mcp_servers=[])
            assert editor.text("user_message_chunk") == "write 0.3 one two three\ntool grep 0.5recall"
            assert editor.text().startswith("one two three\n\ngrep is done")


async def test_an_editor_cancels_and_is_told_what_failed(tmp_path: Path) -> None:
    async with listening(tmp_path) as host, editing(host) as (_, agent):
        session = (await agent.new_session(cwd=str(tmp_path), mcp_servers=[])).session_id
        prompt = asyncio.create_task(agent.prompt(session_id=session, prompt=[acp.text_block("stall")]))

        async def is_asked() -> bool:
            return bool(await host.central("SELECT 1 FROM turns WHERE status = 'running'"))

        await until(is_asked, "the agent is at it", 60)
        await agent.cancel(session_id=session)
        assert (await prompt).stop_reason == "cancelled"
        with pytest.raises(acp.RequestError, match="it broke"):
            await agent.prompt(session_id=session, prompt=[acp.text_block("fail it broke")])


async def test_what_an_editor_sends_along_comes_with_the_text(tmp_path: Path) -> None:
    picture = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    async with listening(tmp_path) as host, editing(host) as (editor, agent):
        session = (await agent.new_session(cwd=str(tmp_path), mcp_servers=[])).session_id
        blocks = [
            acp.text_block("hear"),
            acp.resource_link_block("notes", "file:///notes.md"),
            acp.resource_block(acp.embedded_text_resource("file:///a.py", "print(1)")),
            acp.image_block(picture, "image/png"),
        ]
        await agent.prompt(session_id=session, prompt=blocks)
        assert "[notes](file:///notes.md)" in editor.text()
        assert "print(1)" in editor.text()
        assert [path.name for path in (await host.session()).folder.glob("inbox/*/*")] == ["image-3.png"]


async def test_without_a_name_several_agents_are_asked_for(tmp_path: Path) -> None:
    async with listening(tmp_path) as host:
        await host.do("agent_group.add", name="other", provider="scripted")
        async with editing(host) as (_, agent):
            session = (await agent.new_session(cwd=str(tmp_path), mcp_servers=[])).session_id
            with pytest.raises(acp.RequestError, match="dumbwaiter acp NAME"):
                await agent.prompt(session_id=session, prompt=[acp.text_block("hello")])
