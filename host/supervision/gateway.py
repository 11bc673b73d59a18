"""What each session's agent may do through the gateway, out of registry and settings; and what is told of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from types import MappingProxyType

from host.central import agent_groups, delegations, refusals, sessions, usage
from host.central.database import Central, Queryable, Transaction
from host.gateway import prices
from host.gateway.call_span import CallSpans
from host.gateway.certificate import certificate_of
from host.gateway.grant import Grant
from host.gateway.limits import CallLimits
from host.gateway.policy import parse_rule
from host.gateway.proxies import Proxies
from host.gateway.reservations import BudgetLeft, Release, Reservations
from host.gateway.server import Gateway, Transport
from host.gateway.tls_front import TlsFront
from host.gateway.upstreams import Upstream, doubts
from host.gateway.usage import CallUsage
from host.sessions.folder import Owner
from host.settings import Settings
from shared_schema.clock import Clock, to_text
from shared_schema.errors import FileTrouble

log = logging.getLogger(__name__)


def gateway_for(
    central: Central,
    settings: Settings,
    owner: Owner,
    clock: Clock,
    upstreams: Mapping[str, Upstream],
    proxies: Proxies,
    spans: CallSpans | None = None,
) -> Gateway:
    """The gateway of a host."""
    limits = CallLimits(settings.calls_per_minute, settings.tokens_per_minute, answer_tokens=settings.answer_tokens)
    tasks: set[asyncio.Task[None]] = set()
    reservations = Reservations()

    async def grant_of(session_id: str) -> Grant | None:
        def look(connection: Queryable) -> agent_groups.AgentGroup | None:
            session = sessions.lookup(connection, session_id)
            return None if session is None else agent_groups.by_id(connection, session.agent_group_id)

        group = await central.read(look)
        if group is None:
            return None
        group_id = group.id

        async def exhausted() -> str | None:
            now = to_text(clock.now())
            return await central.read(lambda c: usage.exhausted(c, group_id, now) or delegations.refusal(c, session_id))

        async def left() -> BudgetLeft:
            now = to_text(clock.now())
            found = await central.read(usage.left, group_id, now)
            return BudgetLeft(found.tokens, found.usd, found.exhausted)

        async def reserve(upstream: Upstream, expected: CallUsage) -> Release:
            if not has_budget:
                return lambda: None
            usd = await asyncio.to_thread(_price, upstream, expected, clock.now()) or 0.0
            return await reservations.reserve(group_id, expected.tokens, usd, left)

        has_budget = group.has_budget
        allow = tuple(parse_rule(entry) for entry in group.allowed_hosts)
        return Grant(group.id, allow, upstreams, limits, exhausted, has_budget, reserve)

    def start(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    def refused(session_id: str, what: str, reason: str) -> None:
        start(_note(central, lambda tx: refusals.refuse(tx, session_id, what, reason)))

    def called(session_id: str, upstream: str, used: CallUsage) -> asyncio.Task[None]:
        return start(count(central, session_id, upstreams[upstream], used, clock.now()))

    return Gateway(
        grant_of,
        owner,
        clock,
        refused=refused,
        used=called,
        transport=Transport(settings.gateway),
        proxies=proxies,
        front=_front(settings),
        spans=spans,
    )


def _front(settings: Settings) -> TlsFront | None:
    if settings.gateway_address is None:
        return None
    certificate = certificate_of(settings.layout.data / "gateway.pem")
    return TlsFront(settings.gateway_address, certificate, settings.gateway_listen)


def tell_of_way(upstreams: Mapping[str, Upstream], proxies: Proxies) -> None:
    """Log what of the environment decides where model calls go."""
    for upstream in upstreams.values():
        if upstream.url_from:
            extra = {"upstream": upstream.name, "url": upstream.url, "variable": upstream.url_from}
            log.info("a model service is where the environment says", extra=extra)
        if sentence := doubts(upstream):
            log.warning("the url of a model service may be wrong", extra={"what": sentence})
    if proxies.used:
        log.info("the gateway goes through a proxy", extra={"proxies": ", ".join(proxies.used)})
    for problem in proxies.problems:
        log.warning("a proxy of the environment does not count", extra={"what": problem})


async def count(central: Central, session_id: str, upstream: Upstream, used: CallUsage, at: datetime) -> None:
    """Take down a model call that is over, with its price."""
    of_call = {"session_id": session_id, "upstream": upstream.name, "model": used.model, "tokens": used.tokens}
    price = await asyncio.to_thread(_price, upstream, used, at, of_call)
    log.info("a model call", extra=of_call | {"usd": price})
    await _note(central, lambda tx: usage.count_call(tx, session_id, used.tokens, price or 0.0))


def _price(
    upstream: Upstream, used: CallUsage, at: datetime, of_call: Mapping[str, object] = MappingProxyType({})
) -> float | None:
    """Blocks."""
    try:
        return prices.usd(upstream, used, at)
    except Exception:  # its tokens count, also when the list of prices is broken
        log.exception("a model call cannot be priced", extra=dict(of_call))
        return None


async def _note(central: Central, store: Callable[[Transaction], None]) -> None:
    try:
        await central.write(store)
    except FileTrouble as error:
        log.error("what went through the gateway cannot be noted", extra={"error": str(error)})
