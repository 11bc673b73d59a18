"""What an agent group answers with: its provider and its model, and which of them go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared_schema.errors import InvalidValue
from tests.support.host import AGENT, running


async def test_a_model_alone_is_answered_with_and_one_that_fits_no_provider_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, provider="echo") as host:
        changed = await host.do("agent_group.set", name=AGENT, model="openai:gpt-4o")
        assert (changed["provider"], changed["model"]) == ("model", "openai:gpt-4o"), "an echo has no use for it"
        added = await host.do("agent_group.add", name="helper", model="ollama:qwen3")
        assert added["provider"] == "model"
        for refused in (
            {"model": "gpt-4o"},
            {"provider": "echo", "model": "openai:gpt-4o"},
            {"provider": "claude"},  # which does not know openai:gpt-4o
        ):
            with pytest.raises(InvalidValue, match=r"`--(model|provider model)`"):
                await host.do("agent_group.set", name=AGENT, **refused)
        assert (await host.do("agent_group.show", name=AGENT))["provider"] == "model"


async def test_an_agent_that_goes_back_to_repeating_has_no_model(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        await host.do("agent_group.add", name="other", model="anthropic:claude-sonnet-5-5", provider="model")
        changed = await host.do("agent_group.set", name="other", provider="echo")
        assert (changed["provider"], changed["model"]) == ("echo", None)
