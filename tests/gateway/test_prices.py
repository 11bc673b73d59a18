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
from host.gateway.upstreams import Upstream, UpstreamKind
from host.gateway.usage import CallUsage

AT = datetime(2026, 11, 21, tzinfo=UTC)
MILLION = 1_000_000


def upstream(kind: UpstreamKind, name: str = "", url: str = "http://proxy.example.net") -> Upstream:
    return Upstream(name or kind.value, url, None, kind)


def price(kind: UpstreamKind, usage: CallUsage) -> float | None:
    return usd(upstream(kind), usage, AT)


# In dollars for a million tokens, as the vendors' pages have them: in, out, from the cache, to the cache.
LIST = [
    (UpstreamKind.ANTHROPIC, "claude-sonnet-5-5", 2.0, 10.0, 0.1, 2.5),
    (UpstreamKind.OPENAI, "gpt-4o-2024-08-06", 2.5, 10.0, 1.25, None),
    (UpstreamKind.GOOGLE, "gemini-3.8-flash", 0.75, 3.75, 0.075, None),
]


@pytest.mark.parametrize(("kind", "model", "into", "out", "read", "write"), LIST)
def test_each_kind_of_token_has_its_price(
    kind: UpstreamKind, model: str, into: float, out: float, read: float, write: float | None
) -> None:
    none = CallUsage(model)
    assert price(kind, replace(none, input_tokens=1000)) == pytest.approx(into / 1000)
    assert price(kind, replace(none, output_tokens=1000, reasoning_tokens=400)) == pytest.approx(out / 1000)
    assert price(kind, replace(none, cache_read_tokens=1000)) == pytest.approx(read / 1000)
    if write is not None:
        assert price(kind, replace(none, cache_write_tokens=1000)) == pytest.approx(write / 1000)
    mixed = CallUsage(model, input_tokens=10, output_tokens=20, cache_read_tokens=30)
    assert price(kind, mixed) == pytest.approx((10 * into + 20 * out + 30 * read) / MILLION)


def test_what_costs_more_than_usual_is_counted_as_more() -> None:
    written = CallUsage("claude-sonnet-5-5", cache_write_tokens=1000)
    assert price(UpstreamKind.ANTHROPIC, replace(written, hour_write_tokens=1000)) == pytest.approx(0.004)
    opus = CallUsage("claude-opus-5", output_tokens=1000)
    assert (
        (price(UpstreamKind.ANTHROPIC, replace(opus, speed="fast")) or 0)
        > (price(UpstreamKind.ANTHROPIC, opus) or 0)
        > 0
    )
    long, short = (
        price(UpstreamKind.GOOGLE, CallUsage("gemini-2.5-pro", tokens)) or 0 for tokens in (300_000, 100_000)
    )
    assert long > 3 * short > 0
    gpt = CallUsage("gpt-4o", output_tokens=1000)
    assert (
        (price(UpstreamKind.OPENAI, replace(gpt, service_tier="priority")) or 0)
        > (price(UpstreamKind.OPENAI, gpt) or 0)
        > 0
    )


def test_what_is_not_in_the_list_has_no_price() -> None:
    used = CallUsage("gpt-4o", 1000, 1000)
    assert price(UpstreamKind.OPENAI, replace(used, model="gpt-unheard-of")) is None
    assert price(UpstreamKind.OPENAI, replace(used, model=None)) is None
    assert usd(upstream(UpstreamKind.OPENAI, "local"), used, AT) is None
    assert price(UpstreamKind.OLLAMA, replace(used, model="qwen3")) is None


def test_a_service_is_known_by_its_url_its_name_or_the_format_that_only_one_vendor_has() -> None:
    llama = CallUsage("llama-3.3-70b-versatile", 1000, 1000)
    by_name, by_url = (
        upstream(UpstreamKind.OPENAI, "groq"),
        upstream(UpstreamKind.OPENAI, "fast", "https://api.groq.com/openai/v1"),
    )
    assert usd(by_name, llama, AT) == usd(by_url, llama, AT) == pytest.approx(0.00138)
    assert usd(upstream(UpstreamKind.ANTHROPIC, "work"), CallUsage("claude-sonnet-5-5", 1000), AT) == pytest.approx(
        0.002
    )


def test_of_the_models_that_a_call_may_have_meant_it_is_the_dearest() -> None:
    named = frozenset({"gpt-4o-mini", "gpt-4o", "gpt-unheard-of"})
    assert price(UpstreamKind.OPENAI, CallUsage(None, 1000, requested_models=named)) == price(
        UpstreamKind.OPENAI, CallUsage("gpt-4o", 1000)
    )
    assert price(UpstreamKind.OPENAI, CallUsage("gpt-4o-mini", 1000, requested_models=named)) == price(
        UpstreamKind.OPENAI, CallUsage("gpt-4o-mini", 1000)
    )


def test_a_price_that_changes_is_that_of_the_day() -> None:
    used = CallUsage("gemini-3.8-flash", 1000)
    assert usd(upstream(UpstreamKind.GOOGLE), used, AT + timedelta(days=60)) == pytest.approx(0.0015)


@pytest.mark.parametrize("provider", get_snapshot().providers, ids=lambda provider: provider.id)
def test_every_model_of_the_list_can_be_priced_with_any_usage(provider: Provider) -> None:
    service = upstream(UpstreamKind.OPENAI, provider.id)
    most = 10**12
    everything = CallUsage(None, most, most, most, most, most, hour_write_tokens=most, service_tier="odd", speed="fast")
    for model in provider.models:
        for used in (everything, CallUsage(), CallUsage(cache_write_tokens=3, hour_write_tokens=1)):
            price = usd(service, replace(used, model=model.id), AT)
            assert price is None or price >= 0


def test_the_list_is_not_loaded_before_it_is_used() -> None:
    script = "import sys, host.daemon; print([name for name in sys.modules if name.startswith('genai_prices')])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
