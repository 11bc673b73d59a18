"""A collector of traces: it takes OTLP over HTTP, and decodes what it is sent with the protocol's own messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.support.wait import until


@dataclass(frozen=True)
class Told:
    """A span as it came."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    began: int
    ended: int
    is_error: bool
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]
    service: str


@dataclass
class OtlpCollector:
    """What was posted. `answers` are the statuses of the next answers, after them 200; `hangs`: it never answers."""

    url: str = ""
    spans: list[Told] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: bytes = b""
    answers: list[int] = field(default_factory=list)
    hangs: bool = False
    posts: int = 0

    async def take(self, request: web.Request) -> web.Response:
        """One export."""
        assert request.content_type == "application/x-protobuf"
        body = await request.read()
        self.posts += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.answers:
            return web.Response(status=self.answers.pop(0))
        self.headers.append(dict(request.headers))
        self.bodies += body
        export = ExportTraceServiceRequest.FromString(body)
        for resource in export.resource_spans:
            service = _attributes(resource.resource.attributes)["service.name"]
            self.spans += [_told(span, service) for scope in resource.scope_spans for span in scope.spans]
        return web.Response(body=b"", content_type="application/x-protobuf")

    async def named(self, name: str, count: int = 1) -> list[Told]:
        """Wait until so many different spans whose name begins so have come."""

        def found() -> list[Told]:
            each = {span.span_id: span for span in self.spans if span.name.startswith(name)}
            return list(each.values()) if len(each) >= count else []

        return list(await until(found, f"{count} spans called {name}"))


@asynccontextmanager
async def otlp_collector(port: int = 0) -> AsyncIterator[OtlpCollector]:
    """One on a port of this machine."""
    collector = OtlpCollector()
    application = web.Application()
    application.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield collector
    finally:
        await runner.cleanup()


def _told(span: Any, service: str) -> Told:
    return Told(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == Status.STATUS_CODE_ERROR,
        _attributes(span.attributes),
        tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        service,
    )


def _attributes(given: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in given}
