"""kill -9 of the host in the middle of a model's answer: the message is answered by the same turn, and once.

FAILURES 50.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.platforms.model_server import ModelServer, model_server
from tests.providers.subjects import MODELS
from tests.support.daemon import Daemon
from tests.support.wait import until

WORDS = "and so on " * 30
ANSWERED = "SELECT content ->> 'text' AS text FROM deliveries WHERE from_host = 0 AND status = 'delivered'"
FAILED = "SELECT error FROM ingest WHERE status = 'failed'"


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """A service that lives on when the host dies."""
    async with model_server(key="sk-1") as running:
        yield running


@pytest.fixture
def daemon(tmp_path: Path, server: ModelServer) -> Daemon:
    """A host whose agents run as its own user, so that they find what is installed beside it."""
    settings = {
        f"UPSTREAMS__{name}__{part}": value
        for name, url in (("OPENAI", f"{server.url}/v1"), ("ANTHROPIC", server.url))
        for part, value in (("URL", url), ("KEY", "sk-1"))
    }
    if os.geteuid() == 0:
        tmp_path.chmod(0o700)  # so no other user can reach it, and none is taken
    return Daemon(tmp_path / "data", **settings, TURN_SECONDS="120", START_SECONDS="120", SILENT_SECONDS="60")


async def killed_in_mid_answer(daemon: Daemon, server: ModelServer, provider: str, model: str) -> None:
    """Say something, kill the host while it is answered, start another one."""
    aside = asyncio.to_thread  # the service answers in this loop meanwhile
    await aside(daemon.start)
    await aside(daemon.call, "agent_group.set", name="assistant", provider=provider, model=model)
    said = await aside(daemon.run, "inject", "cli:terminal", f"stream 25 0.1 {WORDS.strip()}")
    assert said.returncode == 0, said.stderr
    await until(lambda: server.requests and server.requests[-1].sent_pieces > 3, "it is being answered", 120)
    await aside(daemon.kill)
    await until(server.requests[-1].ended.is_set, "the service is left alone", 60)
    await aside(daemon.start)
    await until(lambda: daemon.rows(ANSWERED) or daemon.rows(FAILED), "it has its outcome", 180)
    assert daemon.rows(FAILED) == []
    assert [row["text"] for row in daemon.rows(ANSWERED)] == [WORDS.strip()]
    assert [row["tries"] for row in daemon.rows("SELECT tries FROM ingest WHERE kind = 'chat'")] == [0]
    turns = daemon.rows("SELECT status FROM turns")
    assert [turn["status"] for turn in turns] == ["completed"]


@pytest.mark.parametrize("model", ["openai", pytest.param("anthropic", marks=pytest.mark.full)])
async def test_with_the_sdks_of_the_vendors(daemon: Daemon, server: ModelServer, model: str) -> None:
    try:
        await killed_in_mid_answer(daemon, server, "model", MODELS[model])
    finally:
        await asyncio.to_thread(daemon.close)


@pytest.mark.full
async def test_with_the_claude_agent_sdk(daemon: Daemon, server: ModelServer) -> None:
    pytest.importorskip("claude_agent_sdk")
    try:
        await killed_in_mid_answer(daemon, server, "claude", "claude-sonnet-5-5")
    finally:
        await asyncio.to_thread(daemon.close)
