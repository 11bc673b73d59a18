"""What may be written as a model, and where its service is then found."""

from __future__ import annotations

import pytest

from container_agent.providers.model_names import ModelChoice, ModelKind, chosen, usual_window
from container_agent.providers.protocol import ProviderError

HERE = "http://127.0.0.1:4000/upstream"
ENVIRONMENT = {
    "ANTHROPIC_BASE_URL": f"{HERE}/anthropic",
    "OPENAI_BASE_URL": f"{HERE}/openai",
    "GOOGLE_GEMINI_BASE_URL": f"{HERE}/google",
    "OLLAMA_BASE_URL": f"{HERE}/ollama/v1",
    "OPENAI_API_KEY": "sk-0123456789",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("anthropic:claude-x", (ModelKind.ANTHROPIC, "claude-x", "anthropic", f"{HERE}/anthropic", "none")),
        (" openai:gpt-4o ", (ModelKind.OPENAI, "gpt-4o", "openai", f"{HERE}/openai", "sk-0123456789")),
        ("google:gemini", (ModelKind.GOOGLE, "gemini", "google", f"{HERE}/google", "none")),
        ("ollama:qwen3:8b", (ModelKind.OLLAMA, "qwen3:8b", "ollama", f"{HERE}/ollama/v1", "none")),
        ("openai:a/b:free@router", (ModelKind.OPENAI, "a/b:free", "router", f"{HERE}/router", "none")),
        ("ollama:qwen3@gpu", (ModelKind.OLLAMA, "qwen3", "gpu", f"{HERE}/gpu/v1", "none")),
        ("openai:m@http://x.net:8000/v1/", (ModelKind.OPENAI, "m", "x.net:8000", "http://x.net:8000/v1", "none")),
        (
            "anthropic:claude@20250101",
            (ModelKind.ANTHROPIC, "claude@20250101", "anthropic", f"{HERE}/anthropic", "none"),
        ),
    ],
)
def test_a_name_says_which_model_and_which_service(text: str, expected: tuple[ModelKind, str, str, str, str]) -> None:
    assert chosen(text, ENVIRONMENT) == ModelChoice(*expected)


def test_without_a_gateway_the_vendors_own_urls_are_taken() -> None:
    assert chosen("anthropic:x", {}).url == ""
    assert chosen("ollama:x", {}).url == "http://127.0.0.1:11434/v1"


@pytest.mark.parametrize("text", ["", "x", "openai:", "azure:x", "openai", ":x"])
def test_what_names_no_model_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ProviderError, match="anthropic:"):
        chosen(text, ENVIRONMENT)


def test_a_service_by_name_needs_a_gateway() -> None:
    with pytest.raises(ProviderError, match="no gateway"):
        chosen("openai:x@groq", {"OPENAI_BASE_URL": "https://api.example.com/v1"})


def test_the_key_is_in_no_text_about_a_model() -> None:
    assert "sk-0123456789" not in repr(chosen("openai:gpt-4o", ENVIRONMENT))


def test_the_window_of_an_unknown_service_is_unknown() -> None:
    assert usual_window(chosen("anthropic:x", ENVIRONMENT)) == 200_000
    assert usual_window(chosen("openai:x@groq", ENVIRONMENT)) is None
