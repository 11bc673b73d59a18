"""An agent as editors know it: each of their sessions is a conversation, which the running host keeps."""

from __future__ import annotations

import asyncio
import base64
import shutil
import tempfile
from collections.abc import AsyncIterator, Generator
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import acp
from acp import schema

from host.api.client import HostClient
from host.http_api.growing import Growing
from shared_schema.errors import DumbwaiterError

_CANCELLED = "cancelled"
_PICTURE = {"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp"}


def serve(client: HostClient, agent: str | None) -> None:
    """Answer an editor on standard input and output until it closes them."""
    asyncio.run(acp.run_agent(EditorAgent(client, agent)))  # type: ignore[arg-type]


class EditorAgent:
    """What an editor asks, handed to the host; what comes back, told piece by piece."""

    def __init__(self, client: HostClient, agent: str | None) -> None:
        self._client = client
        self._agent = agent
        self._editor: Any = None
        self._asking: dict[str, str] = {}  # session of the editor → the message that is being answered

    def on_connect(self, conn: Any) -> None:
        """The editor, which is told things."""
        self._editor = conn

    async def initialize(self, protocol_version: int, **more: Any) -> acp.InitializeResponse:
        """Say what can be done."""
        return acp.InitializeResponse(
            protocol_version=min(protocol_version, acp.PROTOCOL_VERSION),
            agent_capabilities=schema.AgentCapabilities(
                load_session=True,
                prompt_capabilities=schema.PromptCapabilities(image=True, embedded_context=True),
            ),
            agent_info=schema.Implementation(name="dumbwaiter", title="Dumbwaiter", version="1"),
        )

    async def new_session(self, cwd: str, **more: Any) -> acp.NewSessionResponse:
        """Begin a conversation. Servers of tools that the editor names are not the agent's: it brings its own."""
        return acp.NewSessionResponse(session_id=f"editor-{uuid4().hex}")

    async def load_session(self, cwd: str, session_id: str, **more: Any) -> acp.LoadSessionResponse:
        """Tell an earlier conversation again."""
        for each in await self._call("editor.transcript", thread=session_id):
            await self._tell(session_id, acp.update_user_message_text(each["asked"]))
            await self._tell(session_id, acp.update_agent_message_text(each["text"]))
        return acp.LoadSessionResponse()

    async def prompt(self, session_id: str, prompt: list[Any], **more: Any) -> acp.PromptResponse:
        """Ask the agent, and tell what it says as it says it."""
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp))
        try:
            text, files = _said(prompt, folder)
            key = uuid4().hex
            asked = {"thread": session_id, "text": text, "key": key, "files": files, "agent_group": self._agent}
            done = await self._call("editor.ask", **{name: value for name, value in asked.items() if value})
        finally:
            await asyncio.to_thread(partial(shutil.rmtree, folder, ignore_errors=True))
        self._asking[session_id] = done["message_id"]
        try:
            return acp.PromptResponse(stop_reason=await self._answered(session_id, done["message_id"]))
        finally:
            self._asking.pop(session_id, None)

    async def cancel(self, session_id: str, **more: Any) -> None:
        """End what the agent does; its prompt is answered then."""
        message = self._asking.get(session_id)
        if message is not None:
            await self._call("editor.stop", message=message)

    async def _answered(self, session_id: str, message: str) -> Any:
        growing, tool, tools = Growing(), None, 0
        async with aclosing(self._follow(message)) as news:  # type: ignore[type-var]
            async for each in news:
                match each["type"]:
                    case "draft":
                        await self._tell_text(session_id, growing.draft(each["text"]))
                    case "message":
                        await self._tell_text(session_id, growing.message(each["text"]))
                    case "working" if each["tool"] != tool:
                        if tool is not None:
                            await self._tell(session_id, acp.update_tool_call(f"tool-{tools}", status="completed"))
                        tool = each["tool"]
                        if tool is not None:
                            tools += 1
                            begun = acp.start_tool_call(f"tool-{tools}", tool, status="in_progress")
                            await self._tell(session_id, begun)
                    case "done":
                        return await self._ended(session_id, each, f"tool-{tools}" if tool is not None else None)
        raise acp.RequestError(-32603, "the host went away before it had answered")

    async def _ended(self, session_id: str, done: dict[str, Any], tool: str | None) -> str:
        if tool is not None:
            await self._tell(session_id, acp.update_tool_call(tool, status="completed"))
        if done["status"] == _CANCELLED:
            return _CANCELLED
        if done["status"] != "completed":
            raise acp.RequestError(-32603, done["error"] or "the agent failed")
        return "end_turn"

    async def _tell_text(self, session_id: str, piece: str) -> None:
        if piece:
            await self._tell(session_id, acp.update_agent_message_text(piece))

    async def _tell(self, session_id: str, update: Any) -> None:
        await self._editor.session_update(session_id=session_id, update=update)

    async def _call(self, operation: str, **parameters: Any) -> Any:
        try:
            return await asyncio.to_thread(self._client.call, operation, parameters)
        except DumbwaiterError as error:
            raise acp.RequestError(-32603, str(error)) from error

    async def _follow(self, message: str) -> AsyncIterator[dict[str, Any]]:
        """What the host tells of a message, read in a thread."""
        objects: Generator[dict[str, Any], None, None] = self._client.stream("editor.follow", {"message": message})
        try:
            while True:
                try:
                    each = await asyncio.to_thread(next, objects, None)
                except DumbwaiterError as error:
                    raise acp.RequestError(-32603, str(error)) from error
                if each is None:
                    return
                yield each
        finally:
            with suppress(ValueError):  # a thread still reads: the end of the process ends that
                objects.close()


def _said(prompt: list[Any], folder: Path) -> tuple[str, list[str]]:
    """The text of a prompt, and the paths of its files, which are written into a folder."""
    texts: list[str] = []
    files: list[str] = []
    for number, block in enumerate(prompt):
        match block.type:
            case "text":
                texts.append(block.text)
            case "resource_link":
                texts.append(f"[{block.name}]({block.uri})")
            case "resource" if hasattr(block.resource, "text"):
                texts.append(f"{block.resource.uri}:\n```\n{block.resource.text}\n```")
            case "image":
                path = folder / f"image-{number}{_PICTURE.get(block.mime_type, '')}"
                path.write_bytes(base64.b64decode(block.data))
                files.append(str(path))
            case _:
                raise acp.RequestError(-32602, f"an agent does not take {block.type} from an editor")
    return "\n\n".join(texts), files
