"""What a model call costs in US dollars: the list prices of `genai-prices`, which this module alone imports, when used.

The list is the one that was installed: the host fetches no newer one. It is about tokens: what a service takes for
searches or for storing something is not counted.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from host.gateway.upstreams import Upstream, UpstreamKind
from host.gateway.usage import CallUsage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

_REMEMBERED = 256


def usd(upstream: Upstream, usage: CallUsage, at: datetime) -> float | None:
    """The price of a call made at that time; None where it is not known.

    Of several models that the call may have meant it is the dearest. Blocks: the first time it loads the list, which
    takes a tenth of a second.
    """
    names = usage.requested_models if usage.model is None else (usage.model,)
    prices = [_price(found, usage, at) for name in names if (found := _find(upstream, name)) is not None]
    return max(prices, default=None)


def _price(found: tuple[Provider, ModelInfo], usage: CallUsage, at: datetime) -> float:
    from genai_prices import Usage as Counted

    provider, model = found
    counted = Counted(
        input_tokens=usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.hour_write_tokens,
    )
    terms = {"service_tier": usage.service_tier, "speed": usage.speed}
    context = {term: value for term, value in terms.items() if value is not None}
    cost = model.calc_price(counted, provider, genai_request_timestamp=at, price_context=context)
    return float(cost.total_price)


def _find(upstream: Upstream, model: str) -> tuple[Provider, ModelInfo] | None:
    return _found(upstream.name, upstream.url, upstream.kind, model)


@lru_cache(_REMEMBERED)
def _found(name: str, url: str, kind: UpstreamKind, model: str) -> tuple[Provider, ModelInfo] | None:
    """Whose list it is, and the model in it.

    A service is known by its URL or its name. A service that speaks as Anthropic or Google do has their models; many
    different ones speak as OpenAI does.
    """
    from genai_prices.data_snapshot import get_snapshot

    providers = get_snapshot().providers
    by_id = {provider.id: provider for provider in providers}
    provider = next((each for each in providers if re.match(each.api_pattern, url)), None)
    provider = provider or by_id.get(name) or (None if kind is UpstreamKind.OPENAI else by_id.get(kind))
    found = None if provider is None else provider.find_model(model, all_providers=providers)
    return None if provider is None or found is None else (provider, found)
