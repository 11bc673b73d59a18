"""What calls cost: the arithmetic over list prices, and what has no price."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import Provider

from host.gateway.prices import usd
from host.gateway.upstreams import Kind, Upstream
from host.gateway.usage import Usage

AT = datetime(2026, 11, 21, tzinfo=UTC)
MILLION = 1_000_000


def upstream(kind: Kind, name: str = "", url: str = "http://proxy.example.net") -> Upstream:
    return Upstream(name or kind.value, url, None, kind)


def price(kind: Kind, usage: Usage) -> float | None:
    return usd(upstream(kind), usage, AT)


# In dollars for a million tokens, as the vendors' pages have them: in, out, from the cache, to the cache.
LIST = [
    (Kind.ANTHROPIC, "claude-sonnet-5-5", 2.0, 10.0, 0.1, 2.5),
    (Kind.OPENAI, "gpt-4o-2024-08-06", 2.5, 10.0, 1.25, None),
    (Kind.GOOGLE, "gemini-3.8-flash", 0.75, 3.75, 0.075, None),
]


@pytest.mark.parametrize(("kind", "model", "into", "out", "read", "write"), LIST)
def test_each_kind_of_token_has_its_price(
    kind: Kind, model: str, into: float, out: float, read: float, write: float | None
) -> None:
    none = Usage(model)
    assert price(kind, replace(none, input_tokens=1000)) == pytest.approx(into / 1000)
    assert price(kind, replace(none, output_tokens=1000, reasoning_tokens=400)) == pytest.approx(out / 1000)
    assert price(kind, replace(none, cache_read_tokens=1000)) == pytest.approx(read / 1000)
    if write is not None:
        assert price(kind, replace(none, cache_write_tokens=1000)) == pytest.approx(write / 1000)
    mixed = Usage(model, input_tokens=10, output_tokens=20, cache_read_tokens=30)
    assert price(kind, mixed) == pytest.approx((10 * into + 20 * out + 30 * read) / MILLION)


def test_what_costs_more_than_usual_is_counted_as_more() -> None:
    written = Usage("claude-sonnet-5-5", cache_write_tokens=1000)
    assert price(Kind.ANTHROPIC, replace(written, hour_write_tokens=1000)) == pytest.approx(0.004)
    opus = Usage("claude-opus-5", output_tokens=1000)
    assert (price(Kind.ANTHROPIC, replace(opus, speed="fast")) or 0) > (price(Kind.ANTHROPIC, opus) or 0) > 0
    long, short = (price(Kind.GOOGLE, Usage("gemini-2.5-pro", tokens)) or 0 for tokens in (300_000, 100_000))
    assert long > 3 * short > 0
    gpt = Usage("gpt-4o", output_tokens=1000)
    assert (price(Kind.OPENAI, replace(gpt, service_tier="priority")) or 0) > (price(Kind.OPENAI, gpt) or 0) > 0


def test_what_is_not_in_the_list_has_no_price() -> None:
    used = Usage("gpt-4o", 1000, 1000)
    assert price(Kind.OPENAI, replace(used, model="gpt-unheard-of")) is None
    assert price(Kind.OPENAI, replace(used, model=None)) is None
    assert usd(upstream(Kind.OPENAI, "local"), used, AT) is None
    assert price(Kind.OLLAMA, replace(used, model="qwen3")) is None


def test_a_service_is_known_by_its_url_its_name_or_the_format_that_only_one_vendor_has() -> None:
    llama = Usage("llama-3.3-70b-versatile", 1000, 1000)
    by_name, by_url = upstream(Kind.OPENAI, "groq"), upstream(Kind.OPENAI, "fast", "https://api.groq.com/openai/v1")
    assert usd(by_name, llama, AT) == usd(by_url, llama, AT) == pytest.approx(0.00138)
    assert usd(upstream(Kind.ANTHROPIC, "work"), Usage("claude-sonnet-5-5", 1000), AT) == pytest.approx(0.002)


def test_of_the_models_that_a_call_may_have_meant_it_is_the_dearest() -> None:
    named = frozenset({"gpt-4o-mini", "gpt-4o", "gpt-unheard-of"})
    assert price(Kind.OPENAI, Usage(None, 1000, named=named)) == price(Kind.OPENAI, Usage("gpt-4o", 1000))
    assert price(Kind.OPENAI, Usage("gpt-4o-mini", 1000, named=named)) == price(Kind.OPENAI, Usage("gpt-4o-mini", 1000))


def test_a_price_that_changes_is_that_of_the_day() -> None:
    used = Usage("gemini-3.8-flash", 1000)
    assert usd(upstream(Kind.GOOGLE), used, AT + timedelta(days=60)) == pytest.approx(0.0015)


@pytest.mark.parametrize("provider", get_snapshot().providers, ids=lambda provider: provider.id)
def test_every_model_of_the_list_can_be_priced_with_any_usage(provider: Provider) -> None:
    service = upstream(Kind.OPENAI, provider.id)
    most = 10**12
    everything = Usage(None, most, most, most, most, most, hour_write_tokens=most, service_tier="odd", speed="fast")
    for model in provider.models:
        for used in (everything, Usage(), Usage(cache_write_tokens=3, hour_write_tokens=1)):
            price = usd(service, replace(used, model=model.id), AT)
            assert price is None or price >= 0


def test_the_list_is_not_loaded_before_it_is_used() -> None:
    script = "import sys, host.daemon; print([name for name in sys.modules if name.startswith('genai_prices')])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
