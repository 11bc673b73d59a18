"""What becomes of one connection: its one request is read, let through or refused, and carried out.

Invariant: a connection holds nothing that another waits for, and nothing that goes wrong with it leaves it.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import socket
from dataclasses import field
from traceback import extract_tb
from urllib.parse import urlsplit
from weakref import WeakSet

from aiohttp import ClientSession

from host.gateway import model_call
from host.gateway.call_request import Asked, ClientGone
from host.gateway.call_span import CallSpan, CallSpans
from host.gateway.coalesced import Coalesced
from host.gateway.connection import Connection
from host.gateway.egress import Egress
from host.gateway.grant import Grant, GrantOf, Patience, Tell, Used
from host.gateway.head import LONGEST_HEAD, Call, Fetch, Head, Tunnel, Wanted, parse, plain, wanted
from host.gateway.keys import KeyRing
from host.gateway.limits import CallLimits, Minute
from host.gateway.lookups import Turns
from host.gateway.memory import Memory, MemoryAccount
from host.gateway.pace import Paces, SessionPace
from host.gateway.paths import Use, only_reads, use_of
from host.gateway.proxies import Proxies
from host.gateway.refusal import Reason, Refused, answer
from host.gateway.refusal_throttle import RefusalThrottle
from host.gateway.reservations import Release
from host.gateway.upstreams import Upstream, UpstreamKind
from host.gateway.usage import CallUsage
from shared_schema.clock import Clock
from shared_schema.dataclass import dataclass
from shared_schema.layout import GATEWAY_ALIVE, SessionLayout

log = logging.getLogger(__name__)

_TOKEN_LINE = 128
_USUAL_OUTPUT = 4096
"""Tokens of an answer that count in the limit of a minute while it is not known: that paces, and is no budget."""
_ALIVE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 16\r\nConnection: close\r\n\r\n%b"
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass(slots=True)
class GatewaySession:
    """A session whose agent lives. `token` is what a connection begins with, empty on a Unix socket."""

    id: str
    layout: SessionLayout
    pace: SessionPace
    memory: MemoryAccount
    lookups: asyncio.Semaphore
    token: str = ""
    bound: socket.socket | None = None
    taking: asyncio.Task[None] | None = None
    wires: dict[Connection, asyncio.Task[None]] = field(default_factory=dict)
    most: int = CallLimits().connections
    grants: Coalesced[Grant | None] | None = None

    async def stop_taking(self) -> None:
        """Take no more connections."""
        if self.taking is not None:
            self.taking.cancel()
            await asyncio.gather(self.taking, return_exceptions=True)
        if self.bound is not None:  # not before: the loop watches it until then
            self.bound.close()


@dataclass(slots=True)
class _Ask:
    """What is known so far of a request: what it asks for, whose errors it understands, whether its answer begins."""

    session: GatewaySession
    what: str = "a request"
    kind: UpstreamKind | None = None
    is_under_way: bool = False


class RequestHandler:
    """Serves the connections of all sessions; what they share is here."""

    def __init__(
        self,
        grant_of: GrantOf,
        clock: Clock,
        patience: Patience,
        *,
        refused: Tell,
        used: Used,
        proxies: Proxies = Proxies(),  # noqa: B008 - frozen
        spans: CallSpans | None = None,
    ) -> None:
        self._spans = spans
        self._id = secrets.token_hex(8)  # by which an agent knows a gateway from the one after a restart
        self._proxies = proxies
        self._grant_of = grant_of
        self._clock = clock
        self._patience = patience
        self._used = used
        self._throttle = RefusalThrottle(refused)
        self._minutes: dict[str, Minute] = {}
        self._egress = Egress(patience, proxies=proxies)
        self._paces = Paces()
        self._memory = Memory()
        self._lookups = Turns()
        self._client: ClientSession | None = None
        self._keys = KeyRing()
        self._others: WeakSet[Connection] = WeakSet()

    async def aclose(self) -> None:
        """End what they share. No connection may be under way."""
        for other in list(self._others):  # some still send what an agent left behind
            other.abort()
        if self._client is not None:
            await self._client.close()

    def session(self, session_id: str, layout: SessionLayout) -> GatewaySession:
        """A session whose agent begins."""
        session = GatewaySession(
            session_id, layout, self._paces.new(), self._memory.new(), self._lookups.of(session_id)
        )
        session.grants = Coalesced(lambda: self._grant_of(session_id))
        return session

    def forget(self, session_id: str) -> None:
        """A session is over."""
        self._throttle.forget(session_id)

    def turn_away(self, session: GatewaySession, connection: Connection) -> None:
        """Refuse a connection of a session that has too many."""
        refused = Refused(Reason.TOO_MANY, "This agent has too many connections open at the same time.")
        self._tell(_Ask(session), refused)
        connection.write(answer(refused))
        connection.close_read()

    async def serve(self, session: GatewaySession, connection: Connection) -> None:
        """One connection, from its first byte to its end: the boundary of one request."""
        request = _Ask(session)
        try:
            await self._answer(request, connection)
        except Refused as refused:
            self._tell(request, refused)
            connection.write(answer(refused, request.kind))
            connection.write_eof()
            await connection.swallow(self._patience.linger)
        except (ClientGone, EOFError, ConnectionResetError):
            pass
        except Exception as error:  # its text could repeat a header, and the traceback with it
            at = extract_tb(error.__traceback__)[-1]
            where = f"{at.filename.rpartition('/')[2]}:{at.lineno}"
            extra = {"session_id": session.id, "error": type(error).__name__, "where": where}
            log.error("a request through the gateway failed", extra=extra)
            if not request.is_under_way:
                connection.write(
                    answer(Refused(Reason.BROKEN, "Something in the gateway broke; its log says more."), request.kind)
                )
        finally:
            connection.close()

    async def _answer(self, request: _Ask, connection: Connection) -> None:
        session = request.session
        head = await self._head(session, connection)
        if (head.method, head.target) == ("GET", GATEWAY_ALIVE):
            connection.write(_ALIVE % self._id.encode())
            return
        asked = wanted(head)
        request.what = _shown(asked)
        assert session.grants is not None
        grant = await session.grants.get()
        if grant is None:
            raise Refused(Reason.NO_SESSION, "The session of this agent is over.")
        session.most = grant.limits.connections
        if isinstance(asked, Call):
            await self._call(request, grant, head, asked, connection)
        else:
            await self._carry(request, grant, head, asked, connection)

    async def _head(self, session: GatewaySession, connection: Connection) -> Head:
        try:
            async with asyncio.timeout(self._patience.head):
                if session.token:
                    line = await connection.read_until(b"\n", _TOKEN_LINE)
                    if line is None or not hmac.compare_digest(line.strip(), session.token.encode()):
                        raise Refused(
                            Reason.MALFORMED, "The connection does not begin with this session's token.", status=403
                        )
                data = await connection.read_until(b"\r\n\r\n", LONGEST_HEAD)
        except TimeoutError as error:
            raise Refused(Reason.MALFORMED, "The head of the request did not come in time.", status=408) from error
        if data is None:
            raise Refused(Reason.MALFORMED, f"The head of the request is longer than {LONGEST_HEAD} bytes.", status=431)
        return parse(data)

    async def _call(self, request: _Ask, grant: Grant, head: Head, call: Call, connection: Connection) -> None:
        session_id = request.session.id
        upstream = grant.upstreams.get(call.upstream)
        if upstream is None:
            request.kind = UpstreamKind(call.upstream) if call.upstream in set(UpstreamKind) else UpstreamKind.OPENAI
            raise Refused(Reason.UNKNOWN_UPSTREAM, f"There is no model service '{call.upstream}' for this agent.")
        request.kind = upstream.kind
        use = use_of(head.method, call.path)
        if use is None:
            _look_at_unknown(head.method, upstream, grant)
        counts = use is Use.TOKENS
        span = None
        if counts and self._spans is not None:
            span = await self._spans.begin(session_id, upstream.name, upstream.kind.value)
        try:
            await self._let_through(request, grant, head, call, connection, upstream, span, counts=counts)
        except BaseException as error:
            if span is not None:
                span.error = error.reason.value if isinstance(error, Refused) else type(error).__name__
            raise
        finally:
            if span is not None and self._spans is not None:
                self._spans.end(span)

    async def _let_through(
        self,
        request: _Ask,
        grant: Grant,
        head: Head,
        call: Call,
        connection: Connection,
        upstream: Upstream,
        span: CallSpan | None,
        *,
        counts: bool,
    ) -> None:
        """Carry a call out, if there may be one. Raises `Refused`."""
        session_id = request.session.id
        if counts and head.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise Refused(Reason.UNCOUNTED, "The body of a model call must not be compressed.", status=415)
        await self._permit(grant, upstream)
        minute = self._minutes[grant.agent_group_id]
        reserved: list[Release] = []
        counted: asyncio.Future[None] | None = None
        is_over = False

        def used(usage: CallUsage) -> None:
            nonlocal counted
            minute.add(self._clock.monotonic(), tokens=usage.tokens)
            if span is not None:
                span.usage = usage
            counted = self._used(session_id, upstream.name, usage)

        async def reserve(expected: CallUsage, is_readable: bool) -> None:
            """Runs before the end of a request passes: until then the service does not answer, and nothing is used."""
            if grant.has_budget and not is_readable:
                raise Refused(
                    Reason.UNCOUNTED,
                    "This agent has a budget, and what this call can use cannot be counted: its body is not one JSON "
                    "object in UTF-8.",
                )
            tokens_alone = CallLimits(tokens_per_minute=grant.limits.tokens_per_minute)
            _look_at_minute(minute, tokens_alone, self._clock.monotonic())
            under_way = expected.input_tokens + min(expected.output_tokens, _USUAL_OUTPUT)
            minute.under_way += under_way
            reserved.append(lambda: setattr(minute, "under_way", minute.under_way - under_way))
            try:
                reserved.append(await grant.reserve(upstream, expected))
            finally:
                if is_over:  # the service answered before it had all of the request; what sends it is not ended by that
                    _release(reserved)

        request.is_under_way = True
        url = urlsplit(upstream.url)
        proxy = self._proxies.of(url.scheme, url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
        asked = Asked(call, head, upstream, counts, proxy, session_id, reserve, grant.limits.answer_tokens, span)
        if self._client is None:  # not before: it belongs to the running loop
            self._client = model_call.client(self._patience)
        try:
            async with request.session.memory.call():
                await model_call.carry_out(asked, connection, self._client, self._patience, used, self._keys)
        finally:
            is_over = True
            # What was used is in the ledger before its reservation goes: in between another call would find both free.
            if counted is None:
                _release(reserved)
            else:
                counted.add_done_callback(lambda _: _release(reserved))

    async def _permit(self, grant: Grant, upstream: Upstream) -> None:
        """Take down one more model call. Raises `Refused` when there may be none."""
        if upstream.lacks_key:
            raise Refused(
                Reason.NO_KEY,
                f"The host has no key for the model service '{upstream.name}'; "
                f"type this on the host: dumbwaiter init --model {upstream.name}",
            )
        sentence = await grant.exhausted()
        if sentence is not None:
            raise Refused(Reason.BUDGET, sentence)
        minute, now = self._minutes.setdefault(grant.agent_group_id, Minute()), self._clock.monotonic()
        _look_at_minute(minute, grant.limits, now)
        minute.add(now, requests=1)

    async def _carry(
        self, request: _Ask, grant: Grant, head: Head, asked: Tunnel | Fetch, connection: Connection
    ) -> None:
        """Connect to another host and carry everything in both directions."""
        other, proxy = await self._egress.connect(
            grant.allow,
            asked.destination,
            request.session.lookups,
            make=lambda: Connection(pace=connection.pace, memory=connection.memory),
            is_plain=isinstance(asked, Fetch),
        )
        request.is_under_way = True
        self._others.add(other)
        try:
            if isinstance(asked, Tunnel):
                connection.write(_ESTABLISHED)
            else:
                other.write(plain(head, asked, proxy))
            await connection.join(other, self._patience.silent)
        finally:
            other.close()

    def _tell(self, request: _Ask, refused: Refused) -> None:
        left_out = self._throttle.told(request.session.id, request.what, refused, self._clock.monotonic())
        if left_out is not None:
            extra = {
                "session_id": request.session.id,
                "what": request.what,
                "reason": refused.reason.value,
                "sentence": refused.what,
                "left_out": left_out,
            }
            log.warning("the gateway refused a request", extra=extra)


def _release(reserved: list[Release]) -> None:
    while reserved:
        reserved.pop()()


def _look_at_minute(minute: Minute, limits: CallLimits, now: float) -> None:
    """Raises `Refused` when an agent group has made as many model calls as it may."""
    wait = minute.wait(limits, now)
    if wait is not None:
        raise Refused(
            Reason.RATE_LIMIT,
            f"This agent has made as many model calls as it may in a minute; it may go on in {wait} s.",
            retry_after=wait,
        )


def _look_at_unknown(method: str, upstream: Upstream, grant: Grant) -> None:
    """Raises `Refused` when a call that is no model call may not be made."""
    if not upstream.opens_all:
        raise Refused(
            Reason.NOT_OPEN,
            f"Model calls alone are open to agents, and nothing else of the model service '{upstream.name}'; "
            f'an administrator can open all of it: upstreams.{upstream.name}.paths = "all".',
        )
    if grant.has_budget and not only_reads(method):
        raise Refused(Reason.UNCOUNTED, "This agent has a budget, and what such a call uses cannot be counted.")


def _shown(asked: Wanted) -> str:
    """Returns what a request asks for, for people: never its path or query, which may hold secrets."""
    match asked:
        case Call(upstream=name):
            return f"a call of the model service '{name}'"
        case Tunnel(destination=destination):
            return f"CONNECT {destination}"
        case Fetch(destination=destination):
            return f"http://{destination}"
