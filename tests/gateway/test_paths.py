"""Which calls of a model service are open to agents, and which of them a budget counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from host.gateway.paths import Use, use_of
from tests.gateway.world import World

COSTS = [
    "/v1/messages", "/messages", "/chat/completions", "/v1/chat/completions", "/v1/completions", "/responses",
    "/embeddings", "/api/chat", "/api/generate", "/api/embed", "/api/embeddings",
    "/v1beta/models/gemini-2.5-pro:generateContent", "/v1beta/models/gemini-2.5-pro:streamGenerateContent",
    "/v1/models/g:embedContent", "/v1alpha/models/g:batchEmbedContents", "/v1beta/tunedModels/mine-1:generateContent",
]  # fmt: skip
COSTS_NOTHING = [
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/responses/input_tokens"),
    ("POST", "/v1beta/models/g:countTokens"),
    ("POST", "/api/show"),
    ("GET", "/models"),
    ("GET", "/v1/models/gpt-test"),
    ("GET", "/v1beta/models"),
    ("GET", "/v1beta/models/g"),
    ("GET", "/api/tags"),
    ("GET", "/api/version"),
    ("HEAD", "/"),
    ("HEAD", ""),
]
IS_NO_MODEL_CALL = [
    ("DELETE", "/api/delete"),
    ("POST", "/api/pull"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("POST", "/api/push"),
    ("HEAD", "/api/blobs/sha256:0"),
    ("GET", "/v1/files"),
    ("POST", "/v1/files"),
    ("DELETE", "/v1/models/ft:gpt"),
    ("GET", "/responses/resp_1"),
    ("DELETE", "/responses/resp_1"),
    ("GET", "/v1/messages/batches"),
    ("POST", "/v1/messages/batches"),
    ("POST", "/v1/images/generations"),
    ("POST", "/audio/speech"),
    ("POST", "/v1beta/models/g:batchGenerateContent"),
    ("POST", "/v1beta/models/veo:predictLongRunning"),
    ("GET", "/v1beta/models/g/operations"),
    ("POST", "/v1beta/cachedContents"),
    ("GET", "/v1/messages"),
    ("PUT", "/v1/messages"),
    ("PATCH", "/chat/completions"),
]
SPELT_OTHERWISE = [
    "/v1/%6dessages", "/v1%2fmessages", "//v1/messages", "/v1//messages", "/v1/messages/", "/v1/messages//",
    "/v1/Messages", "/v1/messages;x", "/x/v1/messages", "/v1/v1/messages", "/v1\\messages", "/api/chat/",
    "/v1beta/models/g:stream%47enerateContent", "/v1beta/models/g/:generateContent", "/v1beta/models/:generateContent",
    "/v1beta/models/a/b:generateContent", "/v1beta/models/\u0261:generateContent", "/v1/messages\n",
]  # fmt: skip


@pytest.mark.parametrize("path", COSTS)
def test_what_models_are_asked_costs_tokens(path: str) -> None:
    assert use_of("POST", path) is Use.TOKENS
    assert use_of("GET", path) is not Use.TOKENS


@pytest.mark.parametrize(("method", "path"), COSTS_NOTHING)
def test_what_is_asked_about_models_costs_nothing(method: str, path: str) -> None:
    assert use_of(method, path) is Use.NOTHING


@pytest.mark.parametrize(("method", "path"), [*IS_NO_MODEL_CALL, *(("POST", path) for path in SPELT_OTHERWISE)])
def test_anything_else_and_any_other_spelling_is_no_model_call(method: str, path: str) -> None:
    assert use_of(method, path) is None


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/api/delete"), ("POST", "/api/pull"), ("GET", "/v1/files"), ("POST", "//api/chat")]
)
async def test_what_else_a_service_does_is_not_open_to_agents(here: World, method: str, path: str) -> None:
    async with here.call(f"/upstream/ollama{path}", method, json={"model": "10.0.0.7/x", "insecure": True}) as response:
        assert response.status == 403
        assert response.headers["X-Dumbwaiter-Refused"] == "not_open"
        assert "Model calls alone are open to agents" in await response.text()

    assert here.service.seen == []
    assert [what for _, what, _ in here.refused] == ["a call of the model service 'ollama'"]


async def test_a_service_can_be_opened_and_then_a_budget_allows_what_can_be_counted_or_reads(here: World) -> None:
    assert here.grant is not None
    ollama = replace(here.grant.upstreams["ollama"], opens_all=True)
    here.grant = replace(here.grant, upstreams={"ollama": ollama}, has_budget=True)

    async def asked(method: str, path: str) -> int:
        async with here.call(f"/upstream/ollama{path}", method) as response:
            return response.status

    assert [await asked("POST", "/api/pull"), await asked("GET", "/v1/files")] == [403, 200]
    assert await asked("POST", "/api/chat") == 200
    here.grant = replace(here.grant, has_budget=False)
    assert await asked("POST", "/api/pull") == 200
    assert len(here.used) == 1


async def test_no_header_makes_another_request_of_a_call(here: World) -> None:
    headers = {"X-HTTP-Method-Override": "DELETE", "x-http-method": "DELETE", "X-Method-Override": "DELETE"}
    async with here.call("/upstream/google/v1beta/models/g", "GET", headers=headers) as response:
        assert response.status == 200
    assert "DELETE" not in str(here.service.seen[0].headers)
