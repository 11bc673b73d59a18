"""How long an answer of a model can be, where its request does not say it."""

from __future__ import annotations

import pytest

from host.gateway.output_limits import largest_output


@pytest.mark.parametrize(
    ("models", "tokens"),
    [
        (["gpt-4o-mini"], 16_384),
        (["gpt-4o-2024-11-20"], 16_384),
        (["openai/gpt-4.1-mini"], 32_768),
        (["gpt-4"], 8_192),
        (["gpt-4-0613"], 8_192),
        (["gpt-4-future"], 1_000),
        (["gpt-5-mini"], 128_000),
        (["o3"], 100_000),
        (["ollama"], 1_000),
        (["models/gemini-2.5-flash"], 65_536),
        (["somebodys-own"], 1_000),
        (["gpt-4", "gpt-4o"], 16_384),
        ([], 1_000),
        (["gpt-4" + "o" * 10_000], 16_384),
    ],
)
def test_it_is_what_the_vendor_says_and_else_the_setting(models: list[str], tokens: int) -> None:
    assert largest_output(models, 1_000) == tokens
