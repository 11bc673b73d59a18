"""Handing spans to a collector, over OTLP. The one module that knows OpenTelemetry's libraries."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from host.telemetry.spans import Span, SpanSide
from host.telemetry_settings import TelemetrySetting

_SECONDS = 5.0
_SCOPE = InstrumentationScope("dumbwaiter")
_SIDES = {
    SpanSide.INTERNAL: SpanKind.INTERNAL,
    SpanSide.SERVER: SpanKind.SERVER,
    SpanSide.CLIENT: SpanKind.CLIENT,
    SpanSide.PRODUCER: SpanKind.PRODUCER,
}


class Collector:
    """Where the spans go. Its methods block, `send` for five seconds at most."""

    def __init__(self, setting: TelemetrySetting) -> None:
        # What it logs of a collector that is away is logged once, by who asks it.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        self._resource = Resource.create({"service.name": setting.service_name})
        headers = {name: value.get_secret_value() for name, value in setting.headers.items()}
        self._exporter = OTLPSpanExporter(setting.url, headers=headers or None, timeout=_SECONDS)

    def send(self, spans: Sequence[Span]) -> bool:
        """Whether the collector has taken them; without spans, whether it would."""
        return self._exporter.export([self._made(each) for each in spans]) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _made(self, span: Span) -> ReadableSpan:
        attributes = span.attributes if span.error is None else span.attributes | {"error.type": span.error}
        return ReadableSpan(
            span.name,
            context=_context(span.trace_id, span.span_id),
            parent=_context(span.trace_id, span.parent_id) if span.parent_id else None,
            resource=self._resource,
            attributes=attributes,
            links=[Link(_context(*each)) for each in span.links],
            kind=_SIDES[span.kind],
            status=Status(StatusCode.UNSET if span.error is None else StatusCode.ERROR),
            start_time=span.began,
            end_time=span.ended,
            instrumentation_scope=_SCOPE,
        )


def _context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
