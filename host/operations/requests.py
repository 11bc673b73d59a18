"""Answering what agents ask in mid-turn: a row of `inbound.db` that names the request, within a second.

Invariants:
- an agent reads what is of its own agent group, and nothing else; of people it sees what it would see of them now, also
  where something was said before their ids were hidden, or is in no agent's file yet;
- an answer is no message: its row is `completed` from the start, and no turn takes it;
- a session that asks much waits for itself alone: its requests are answered one after the other, and are bounded in
  size, in rate and in number.

What is lost with a host that dies is asked again by the agent.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from host.background import boundary, in_background
from host.central import (
    agent_groups,
    deliveries,
    ingest,
    session_list,
    session_lookup,
    sessions,
    tool_server_problems,
)
from host.central.database import Queryable, Transaction
from host.central.ingest import COMMAND
from host.central.sessions import Session
from host.delivery.allowance import Allowances
from host.delivery.request import MAX_ANSWER, AgentRequest, RequestName, arguments_of
from host.operations import agent_acts, agent_schedules, containers, delegate, history
from host.services import Services
from host.sessions import inbox
from host.sessions.inbox import NewMessage, StatusUpdate
from host.sessions.redaction import Redaction
from shared_schema import tool_servers
from shared_schema.clock import to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, DumbwaiterError, InvalidValue, NotFound
from shared_schema.rows import Address, MessageInKind, MessageInStatus, encode
from shared_schema.text import folded

log = logging.getLogger(__name__)

Asked = tuple[str, AgentRequest]
"""A session's id, and what its agent asks."""

_MAX_WAITING = 30  # of one session; what comes on top is dropped, and the agent hears nothing
_SECONDS = 10.0
_BEHIND_THE_ANSWER = timedelta(seconds=2)
"""A notice about a turn comes after a quick answer of it."""
_NAME = 1_000  # characters of a person's name or id that are compared
_ADDRESS = Address("host", "answer")
_NOT_SAID = (MessageInKind.SYSTEM, MessageInKind.CONTROL, COMMAND)
_PLAIN = (InvalidValue, NotFound, Conflict)  # errors that are about the arguments


@asynccontextmanager
async def answering(services: Services) -> AsyncIterator[None]:
    """Answer the requests of `services.dispatcher.requests` until the block ends."""
    answers = Answers(services, services.profile.redaction)

    async def take() -> None:
        while True:
            answers.asked(*await services.dispatcher.requests.get())

    try:
        async with in_background(take(), name="requests of agents"):
            yield
    finally:
        await answers.close()


@dataclass(frozen=True, slots=True)
class _Speaker:
    id: str | None
    name: str | None

    @property
    def shown(self) -> str | None:
        return self.name or self.id


def _task(name: RequestName) -> Callable[[Answers, Session, Mapping[str, Any]], Awaitable[list[dict[str, Any]]]]:
    """What answers a request about schedules."""

    async def answer(answers: Answers, session: Session, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        return await agent_schedules.answer(answers.services, session, name, arguments)

    return answer


class Answers:
    """Answers requests; those of one session in order, those of several side by side."""

    def __init__(self, services: Services, redaction: Redaction) -> None:
        self.services = services
        self._redaction = redaction
        self._waiting: dict[str, list[AgentRequest]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._allowances = Allowances()

    def asked(self, session_id: str, request: AgentRequest) -> None:
        """An agent asks something."""
        waiting = self._waiting.setdefault(session_id, [])
        if len(waiting) >= _MAX_WAITING:
            return
        waiting.append(request)
        if session_id not in self._workers:
            self._workers[session_id] = asyncio.create_task(self._serve(session_id), name=f"answers {session_id}")

    async def close(self) -> None:
        """Leave what is not answered; agents ask again."""
        workers = list(self._workers.values())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _serve(self, session_id: str) -> None:
        try:
            while self._waiting[session_id]:
                request = self._waiting[session_id].pop(0)
                ids = {"session": session_id, "request": request.message_id}
                with boundary(log, "a request of an agent could not be answered", **ids):
                    await self._answer(session_id, request)
        finally:
            del self._waiting[session_id], self._workers[session_id]

    async def _answer(self, session_id: str, request: AgentRequest) -> None:
        session = await self.services.central.read(sessions.lookup, session_id)
        if session is None or session.status != "active" or session.generation != request.generation:
            return
        content = await self._content(session, request)
        if content is None:
            return
        message = NewMessage(
            id=_answer_id(request.message_id),
            kind=MessageInKind.SYSTEM,
            timestamp=to_text(self.services.clock.now()),
            generation=session.generation,
            trigger=0,
            address=_ADDRESS,
            sender_id=None,
            sender_name=None,
            content=encode({"answer_to": request.message_id, **content}),
        )
        done = StatusUpdate(message.id, MessageInStatus.COMPLETED, 0)
        async with self.services.supervisor.holding(session_id):
            folder = self.services.inbox_sync.folder(session)
            if folder.inbound.exists():
                sole = self.services.central.require_sole
                await asyncio.to_thread(inbox.update, folder, messages=[message], statuses=[done], require_sole=sole)

    async def _content(self, session: Session, request: AgentRequest) -> dict[str, Any] | None:
        """`{"result": …}` or `{"error": sentence}`; None: it asks so much that it is not even told so any more."""
        now = self.services.clock.monotonic()
        asked, refused = self._allowances.of(session.id, now)
        if (refusal := asked.refusal(now)) is not None:
            is_told = refused.refusal(now) is None
            return {"error": f"the host answers no more at the moment: {refusal}"} if is_told else None
        try:
            name, arguments = arguments_of(request)
            async with asyncio.timeout(_SECONDS):
                return {"result": await self._results[name](self, session, arguments)}
        except _PLAIN as error:
            return {"error": error.what if error.hint is None or "`" in error.hint else f"{error.what}: {error.hint}"}
        except TimeoutError:
            return {"error": "the host could not answer in time"}
        except DumbwaiterError as error:
            log.warning("history could not be read", extra={"session_id": session.id, "error": str(error)})
            return {"error": "the host cannot look at the moment"}

    async def _sessions(self, session: Session, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        chosen = session_list.Filter(agent_group_id=session.agent_group_id)
        rows = await self.services.central.read(session_list.page, chosen, limit=arguments["limit"])
        return _bounded([self._shown(row) | {"is_this_one": row["id"] == session.id} for row in rows])

    async def _search(self, session: Session, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        named = arguments["session"]
        if named is not None:
            named = (await self._named(session, named)).id
        found = await history.search(
            self.services,
            query=arguments["query"],
            session=named,
            sender=arguments["sender"],
            since=arguments["since"],
            until=arguments["until"],
            limit=arguments["limit"],
            scope=[session.agent_group_id],
            asking=session.id,
        )
        said = {hit["id"]: hit["sender"] for hit in found["hits"] if hit["role"] == "user"}
        speakers = await self._speakers(said)
        hits = [
            {
                "session": hit["session_id"],
                "title": hit["title"],
                "role": hit["role"],
                "sender": speakers[hit["id"]].shown if hit["id"] in speakers else hit["sender"],
                "time": hit["time"],
                "text": hit["snippet"],
            }
            for hit in found["hits"]
            if self._may_be_of(speakers.get(hit["id"]), arguments["sender"])
        ]
        return _bounded(hits)

    async def _history(self, session: Session, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        meant_one = session if arguments["session"] is None else await self._named(session, arguments["session"])
        told = await history.transcript(self.services, session=meant_one.id, limit=arguments["limit"])
        speakers = await self._speakers({entry["id"]: entry["sender"] for entry in told if entry["direction"] == "in"})
        entries = [
            {"from": "you" if entry["direction"] == "out" else speakers[entry["id"]].shown, "time": entry["time"],
             "text": entry["text"], "files": entry["files"]}
            for entry in told
            if entry["kind"] not in _NOT_SAID
        ]  # fmt: skip
        return _bounded(entries[::-1])[::-1]

    async def _tool_servers(self, session: Session, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Keep which servers of tools cannot be used, and tell the chat of each once."""
        later = to_text(self.services.clock.now() + _BEHIND_THE_ANSWER)

        def store(tx: Transaction) -> None:
            group = agent_groups.by_id(tx, session.agent_group_id)
            chosen = set() if group is None else set(tool_servers.servers_of(group.tool_servers or "{}"))
            problems = {name: why for name, why in arguments["problems"].items() if name in chosen}
            news = tool_server_problems.report(tx, session.id, problems)
            address = ingest.last_address(tx, session.id)
            if not news or address is None:
                return
            lines = [f"The tools of '{name}' cannot be used now: {problems[name]}" for name in news]
            deliveries.add_notice(tx, session.id, address, None, "\n".join(lines), deliver_after=later)

        await self.services.central.write(store)
        return []

    async def _request_host(self, session: Session, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [await agent_acts.asked(self.services, session, "host", arguments)]

    async def _add_server(self, session: Session, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [await agent_acts.asked(self.services, session, "tool_server", arguments)]

    async def _create_agent(self, session: Session, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [await agent_acts.asked(self.services, session, "new_agent", arguments)]

    async def _install_packages(self, session: Session, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        containers.require_layers(self.services)
        return [await agent_acts.asked(self.services, session, "packages", arguments)]

    async def _request_mount(self, session: Session, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        await containers.require_allowed(self.services, arguments)
        return [await agent_acts.asked(self.services, session, "mount", arguments)]

    async def _delegate(self, session: Session, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [await delegate.begin(self.services, session, arguments)]

    async def _may_call(self, session: Session, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [await agent_acts.may_call(self.services, session, arguments)]

    async def _speakers(self, said: Mapping[str, str | None]) -> dict[str, _Speaker]:
        """Who said these messages, as the agent sees them. Whom the ledger does not know is shown as a hash at most."""

        def look(connection: Queryable) -> list[ingest.AcceptedMessage | None]:
            return [ingest.get(connection, message_id) for message_id in said]

        rows = await self.services.central.read(look)
        redaction = self._redaction
        return {
            message_id: _Speaker(redaction.person("", said[message_id]), None)
            if row is None
            else _Speaker(
                redaction.person(row.channel_type, row.sender_id), redaction.name(row.channel_type, row.sender_name)
            )
            for message_id, row in zip(said, rows, strict=True)
        }

    def _may_be_of(self, speaker: _Speaker | None, wanted: str | None) -> bool:
        """Whether an agent may ask for a person by that name or id: not by one that it is not to see."""
        if wanted is None or not self._redaction.key:
            return True
        seen = () if speaker is None else (speaker.id, speaker.name)
        return folded(wanted, _NAME) in (folded(each, _NAME) for each in seen if each is not None)

    async def _named(self, session: Session, name: str) -> Session:
        """The session of the same agent group that is meant. Raises `NotFound`, `Conflict`."""
        return await self.services.central.read(session_lookup.find, name, agent_group_id=session.agent_group_id)

    def _shown(self, row: sqlite3.Row) -> dict[str, Any]:
        channel_type, _, platform_id = (row["messaging_group"] or "").partition(":")
        chat = f"{channel_type}:{self._redaction.chat(channel_type, platform_id)}" if platform_id else None
        return {
            "id": row["id"],
            "title": row["title"],
            "chat": chat,
            "kind": row["kind"],
            "status": row["status"],
            "last_active": row["last_active"],
        }

    _results: Mapping[RequestName, Callable[[Answers, Session, Mapping[str, Any]], Awaitable[list[dict[str, Any]]]]] = {
        RequestName.LIST_SESSIONS: _sessions,
        RequestName.SEARCH_MESSAGES: _search,
        RequestName.READ_HISTORY: _history,
        RequestName.REPORT_TOOL_SERVERS: _tool_servers,
        **{name: _task(name) for name in agent_schedules.REQUESTS},
        RequestName.REQUEST_HOST: _request_host,
        RequestName.ADD_MCP_SERVER: _add_server,
        RequestName.CREATE_AGENT: _create_agent,
        RequestName.MAY_CALL: _may_call,
        RequestName.DELEGATE: _delegate,
        RequestName.INSTALL_PACKAGES: _install_packages,
        RequestName.REQUEST_MOUNT: _request_mount,
    }


def _bounded(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many entries, from the first, as an answer may have; with a note when that is not all."""
    room = MAX_ANSWER
    for place, entry in enumerate(entries):
        room -= len(json.dumps(entry, ensure_ascii=False))
        if room < 0:
            if place == 0:
                return [{**entry, "text": str(entry.get("text"))[: MAX_ANSWER // 2]}, {"note": "the rest was left out"}]
            return [*entries[:place], {"note": f"{len(entries) - place} more were left out for want of room"}]
    return entries


def _answer_id(message_id: str) -> str:
    """The same for the same request: an answer that is written twice is there once."""
    return f"msg_{blake2b(message_id.encode(), digest_size=8).hexdigest()}"
