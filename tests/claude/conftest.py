"""Fixtures for the provider `claude`. The real SDK and its real program run against the fake model server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from container_agent.providers.claude import ClaudeProvider
from tests.agent.session import BareSession
from tests.platforms.model_server import ModelServer, model_server
from tests.providers.agent import Agent, living

MODEL = "claude-sonnet-5-5"


@pytest.fixture
def installed() -> None:
    """Skips where the SDK is not installed."""
    if find_spec("claude_agent_sdk") is None:
        pytest.skip("the Claude Agent SDK is not installed: pip install claude-agent-sdk")


@pytest.fixture
def session(tmp_path: Path) -> BareSession:
    """A session folder with both files and no rows."""
    return BareSession(tmp_path)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """A fake model service."""
    async with model_server() as running:
        yield running


@pytest.fixture
def environment(server: ModelServer) -> dict[str, str]:
    """What the gateway's forwarder sets, for the fake server; and no request is made again."""
    return {"ANTHROPIC_BASE_URL": server.url, "CLAUDE_CODE_MAX_RETRIES": "0"}


@pytest.fixture
async def agent(installed: None, session: BareSession, environment: dict[str, str]) -> AsyncIterator[Agent]:
    """An agent with the provider `claude`."""
    async with living(session, ClaudeProvider(environment), model=MODEL) as running:
        yield running
