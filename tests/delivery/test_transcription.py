"""What is said in a voice message comes to the agent as text beside the file, where a service writes it down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from host.channels.downloads import Downloads
from host.channels.protocol import BaseChannel
from host.gateway.upstreams import Upstream, UpstreamSetting, configure
from host.routing.event import Event, RemoteFile
from host.sessions.attachments import FileLimits
from host.transcription import Transcriber, TranscriptionFailed
from shared_schema.rows import Address

LIMITS = FileLimits(5, 1024**2, 10 * 1024**2)


@asynccontextmanager
async def service(status: int = 200) -> AsyncIterator[tuple[dict[str, Upstream], list[tuple[str, bytes, str]]]]:
    """A service with the interface of OpenAI, and what it was asked: model, bytes of the file, key."""
    asked: list[tuple[str, bytes, str]] = []

    async def answer(request: web.Request) -> web.Response:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        asked.append((str(form["model"]), file.file.read(), request.headers["Authorization"]))
        return web.json_response({"text": " Buy some milk. "}, status=status)

    application = web.Application()
    application.router.add_post("/v1/audio/transcriptions", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    setting = UpstreamSetting(url=f"http://127.0.0.1:{port}/v1", key="sk-canary-123456", kind="openai")
    try:
        yield configure({"voice": setting}, {}, {}), asked
    finally:
        await runner.cleanup()


async def test_a_voice_message_comes_with_its_text(tmp_path: Path) -> None:
    class Voices(BaseChannel):
        name = type = "bot"

        async def download(self, file: RemoteFile, target: Path) -> None:
            await asyncio.to_thread(target.write_bytes, b"OggS")

    event = Event(Address("bot", "1"), "5", "", remote_files=(RemoteFile("voice.ogg", "r"), RemoteFile("a.txt", "s")))
    async with service() as (upstreams, asked):
        writes = Transcriber(upstreams, {"upstream": "voice", "model": "w"})
        channels: Any = {"bot": Voices()}
        async with Downloads(channels, tmp_path, LIMITS, seconds=20, transcribe=writes).fetched(event) as found:
            pass

    assert found.text == "[in voice.ogg is said: Buy some milk.]"
    assert [each.name for each in found.attachments] == ["voice.ogg", "a.txt"]
    assert asked == [("w", b"OggS", "Bearer sk-canary-123456")]


async def test_without_a_service_or_with_one_that_fails_it_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "voice.ogg"
    file.write_bytes(b"OggS")
    assert await Transcriber({}, {})(file) is None
    async with service(status=500) as (upstreams, _):
        with pytest.raises(TranscriptionFailed, match="voice answers with status 500"):
            await Transcriber(upstreams, {"upstream": "voice"})(file)
    with pytest.raises(TranscriptionFailed, match="there is no model service 'nobody'"):
        await Transcriber({}, {"upstream": "nobody"})(file)
