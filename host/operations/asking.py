"""What programs ask of agents over HTTP: handing a message in, what answers it, following that, stopping it.

Each token has one chat, `api:<name>`; each conversation is a thread of it with one agent, and so a session of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import field
from typing import Any

from host.central import agent_groups, approvals, asked, messaging_groups, routes, session_lookup, tokens, usage
from host.central.approvals import ApprovalState
from host.central.asked import ProgramAnswer, ProgramMessage
from host.central.database import Queryable
from host.central.messaging_groups import MessagingGroup, SessionMode, UnknownSender
from host.central.tokens import Rights, Token
from host.channels.api import CHANNEL_TYPE
from host.operations import messaging_groups as chats
from host.operations import session_stop, wirings
from host.operations.written_ahead import WrittenAhead
from host.routing.event import Event
from host.services import Services
from host.sessions.attachments import Attachment
from shared_schema.clock import to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, DumbwaiterError, FileDamaged, InvalidValue, NotFound
from shared_schema.ids import Prefix, is_id
from shared_schema.rows import Address, AgentPhase, MessageInStatus, decode

_LONGEST_KEY = 200
_LOOK_SECONDS = 2.0
_BREATH_SECONDS = 0.001
_MOST_APPROVALS = 200


class BudgetUsedUp(Conflict):
    """A token or an agent group has used up its budget."""


class NotAllowed(DumbwaiterError):
    """A token that holds, and may not do this."""


@dataclass(frozen=True, slots=True)
class HandedIn:
    """A message of a program that is in the ledger. `duplicate`: it was there before, by its key."""

    message_id: str
    session_id: str
    duplicate: bool


def chat_of(token: Token) -> str:
    """The chat of a token."""
    return f"{CHANNEL_TYPE}:{token.name}"


async def agents(services: Services, token: Token) -> list[dict[str, Any]]:
    """The agent groups that a token reaches: name, provider, model, created_at."""

    def load(connection: Queryable) -> list[dict[str, Any]]:
        return [
            {"name": each.name, "provider": each.provider, "model": each.model, "created_at": each.created_at}
            for each in agent_groups.all_groups(connection)
            if token.reaches(each.id)
        ]

    return await services.central.read(load)


async def hand_in(
    services: Services,
    token: Token,
    *,
    agent_group: str,
    thread: str,
    text: str,
    key: str,
    files: Sequence[Attachment] = (),
    before: str | None = None,
    traceparent: str | None = None,
) -> HandedIn:
    """Take what a program says to an agent, once for each `key`. It is on the disk when this returns.

    `before` is another text with which the same message may have come before, `traceparent` the caller's place in a
    trace.

    Raises `NotFound` for an agent that the token does not reach, `NotAllowed`, `BudgetUsedUp`, `Conflict`,
    `InvalidValue`.
    """
    if not token.may_talk:
        raise NotAllowed(
            f"the token '{token.name}' may read and not talk",
            hint="`dumbwaiter token add NAME --rights talk` makes one that may",
        )
    if not text.strip() and not files:
        raise InvalidValue("the message is empty", hint="write something, or attach a file")
    if not key or len(key) > _LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise InvalidValue(f"a key has 1 to {_LONGEST_KEY} printable characters of ASCII")
    await _wire(services, token, agent_group)
    receipt = await services.programs.hand_in(
        Event(
            address=Address(CHANNEL_TYPE, token.name, thread),
            platform_message_id=key,
            text=text,
            sender_id=token.name,
            is_mention=True,
            is_group=False,
            attachments=tuple(files),
            agent_group=agent_group,
            is_literal=True,
            traceparent=traceparent,
        )
    )
    if not receipt.accepted:
        raise Conflict(f"the message was not taken: {receipt.dropped}")
    accepted = receipt.accepted[0]
    if accepted.duplicate:
        await _require_same(services, accepted.message_id, thread, text, before)
    return HandedIn(accepted.message_id, accepted.session_id, accepted.duplicate)


async def _require_same(services: Services, message_id: str, thread: str, text: str, before: str | None) -> None:
    """A key that comes again must come with the same. Raises `Conflict`."""
    found = await services.central.read(lambda c: asked.find(c, message_id))
    if found is None:
        return
    kept = _content(found.content).get("text")
    cut = services.settings.max_text  # a longer text is kept as a file
    if found.thread_id != thread or (isinstance(kept, str) and len(text) <= cut and kept not in (text, before)):
        raise Conflict("this key was used for another message", hint="choose a new Idempotency-Key for each message")


async def find(services: Services, token: Token, message_id: str) -> ProgramMessage:
    """What was asked, if the token may see it. Raises `NotFound`, also for what others asked."""
    found = None
    if is_id(message_id, Prefix.MESSAGE):
        found = await services.central.read(lambda c: asked.find(c, message_id))
    if found is None or not sees(token, found):
        raise NotFound(f"there is no run '{message_id[:40]}'", hint="GET /api/runs lists those of this token")
    return found


def sees(token: Token, found: ProgramMessage) -> bool:
    """Whether a token may see what was asked: its own, or, when it may read or change, all of its agent group."""
    if not token.reaches(found.agent_group_id):
        return False
    return found.platform_id == token.name or token.rights != Rights.TALK


async def show(services: Services, token: Token, message_id: str) -> dict[str, Any]:
    """What was asked and what became of it, as `shown` has it. Raises `NotFound`."""
    found = await find(services, token, message_id)
    return await services.central.read(lambda c: _shown_now(services, c, found))


async def list_all(services: Services, token: Token, *, limit: int = 20) -> list[dict[str, Any]]:
    """What was asked last, the newest first; of a token that may only talk, its own."""
    if not 1 <= limit <= 100:
        raise InvalidValue(f"the limit must be 1 to 100, not {limit}")

    def load(connection: Queryable) -> list[dict[str, Any]]:
        own = token.name if token.rights == Rights.TALK else None
        found = asked.newest(connection, platform_id=own, agent_group_id=token.agent_group_id, limit=limit)
        return [_shown_now(services, connection, each) for each in found]

    return await services.central.read(load)


async def stop(services: Services, token: Token, message_id: str) -> dict[str, Any]:
    """End what the agent does for a message, with all that waits in its conversation. Raises `NotFound`."""
    found = await find(services, token, message_id)
    if found.status == MessageInStatus.PENDING:
        session = await services.central.read(lambda c: session_lookup.find(c, found.session_id))
        await session_stop.interrupt(services, session)
    return await show(services, token, message_id)


async def follow(services: Services, token: Token, message_id: str) -> AsyncIterator[dict[str, Any]]:
    """What answers a message, from its beginning until its outcome.

    `draft`: what the agent has written so far of its present message (text); `message`: one that is whole (id, text,
    files); `working`: phase and tool, when these change; `done`: what `shown` has. Raises `NotFound`.
    """
    found = await find(services, token, message_id)
    view = _Following(services, found)
    with services.dispatcher.following() as news, services.supervisor.overheard(found.session_id, news.set):
        while True:
            news.clear()  # before looking, so that what is committed meanwhile is looked at again
            commits = services.dispatcher.commits
            for each in await view.look():
                yield each
            if view.is_over:
                return
            # At a hint of the agent its draft alone may be new: what it said is told by the commit that follows, which
            # does not wait behind a look at the ledger that finds nothing.
            while await _is_woken(view, news) and services.dispatcher.commits == commits:
                news.clear()
                for each in await view.look_at_draft():
                    yield each
            await asyncio.sleep(_BREATH_SECONDS)  # a burst of commits is looked at once


async def _is_woken(view: _Following, news: asyncio.Event) -> bool:
    """Wait for a commit, a hint or a file that was busy; False where there was none for long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(view.ahead.again_in or _LOOK_SECONDS):
            await news.wait()
    return news.is_set() or view.ahead.again_in is not None


@dataclass(slots=True)
class _Following:
    """What one follower of a message has been told."""

    services: Services
    asked: ProgramMessage
    position: int = 0
    told: bool = False
    doing: tuple[str, str | None] | None = None
    ahead: WrittenAhead = field(init=False)
    draft: str = ""
    is_over: bool = False

    def __post_init__(self) -> None:
        self.ahead = WrittenAhead(self.services, self.asked.session_id)

    async def look(self) -> list[dict[str, Any]]:
        """What is new."""
        found, said, shown = await self.services.central.read(self._read)
        if found is None:
            raise NotFound("the conversation is gone")
        news: list[dict[str, Any]] = []
        for each in said:
            self.position, self.told = each.position, True
            news.append({"type": "message", **_message(each)})
        self.asked = found
        if shown is not None:
            self.is_over = True
            return [*news, {"type": "done", **shown}]
        return [*news, *await self._working(found)]

    def _read(self, connection: Queryable) -> tuple[ProgramMessage | None, list[ProgramAnswer], dict[str, Any] | None]:
        """The message, what answers it and is new, and all of it as it is shown once it has its outcome."""
        found = asked.find(connection, self.asked.message_id)
        if found is None:
            return None, [], None
        # Only who was told nothing gets what was said to others that the same turn took.
        said = asked.said(connection, found, self.position)
        is_over = found.status != MessageInStatus.PENDING
        return found, said, _shown_now(self.services, connection, found) if is_over else None

    async def _working(self, found: ProgramMessage) -> list[dict[str, Any]]:
        news: list[dict[str, Any]] = []
        doing = _doing(self.services, found)
        if doing != self.doing:
            self.doing = doing
            news.append({"type": "working", "phase": doing[0], "tool": doing[1]})
        return [*news, *await self.look_at_draft()]

    async def look_at_draft(self) -> list[dict[str, Any]]:
        """What the agent has written since the last look of an answer that is not whole."""
        if self.asked.turn_id is None:  # it may still be busy with another message
            return []
        await self.ahead.look()
        if self.ahead.draft in ("", self.draft):
            return []
        self.draft = self.ahead.draft
        return [{"type": "draft", "text": self.draft}]


def _doing(services: Services, found: ProgramMessage) -> tuple[str, str | None]:
    """The phase of what works on a message, and the tool it uses."""
    agent = services.supervisor.agents.get(found.session_id)
    if agent is None:
        return "queued", None
    doing = agent.doing
    if found.turn_id is None or doing in set(AgentPhase):
        return ("queued" if found.turn_id is None else str(AgentPhase.WORKING)), None
    return str(AgentPhase.WORKING), doing


def _shown_now(services: Services, connection: Queryable, found: ProgramMessage) -> dict[str, Any]:
    said = asked.said(connection, found)
    shown = shown_of(found, said)
    shown["approvals"] = approvals_of(connection, found)  # an agent that has asked may rest while people decide
    if found.status == MessageInStatus.PENDING:
        shown["status"], shown["tool"] = _doing(services, found)
    return shown


def shown_of(found: ProgramMessage, said: Sequence[ProgramAnswer]) -> dict[str, Any]:
    """A message of a program as JSON. `status`: queued, working, completed, failed or cancelled; `text`: all that
    answers it; `usage`: of the turn that took it, None as long as that is not known.
    """
    messages = [_message(each) for each in said]
    return {
        "id": found.message_id,
        "session_id": found.session_id,
        "agent_group": found.agent_group,
        "status": found.status,
        "error": found.error,
        "is_over_budget": found.status == MessageInStatus.FAILED and usage.is_refusal(found.error or ""),
        "created_at": found.accepted_at,
        "finished_at": found.finished_at,
        "text": "\n\n".join(each["text"] for each in messages if each["text"]),
        "messages": messages,
        "model": found.model,
        "tool": None,
        "approvals": [],
        "usage": None
        if found.input_tokens is None and found.output_tokens is None
        else {
            "input_tokens": found.input_tokens or 0,
            "output_tokens": found.output_tokens or 0,
            "cache_read_tokens": found.cache_read_tokens or 0,
            "cache_write_tokens": found.cache_write_tokens or 0,
            "reasoning_tokens": found.reasoning_tokens or 0,
            "cost_usd": found.cost_usd,
        },
    }


def approvals_of(connection: Queryable, found: ProgramMessage) -> list[dict[str, Any]]:
    """What waits for a person's decision in the conversation of a message: code, kind, subject."""
    waiting = approvals.newest(connection, ApprovalState.PENDING, _MOST_APPROVALS)
    return [
        {"code": each.code, "kind": each.kind, "subject": each.subject, "created_at": each.created_at}
        for each in waiting
        if each.about.get("session_id") == found.session_id
    ]


def _message(said: ProgramAnswer) -> dict[str, Any]:
    content = _content(said.content)
    files = content.get("files")
    names = [str(each.get("path") if isinstance(each, dict) else each) for each in files or ()] if files else []
    return {
        "id": said.message_out_id,
        "text": str(content.get("text", "")),
        "files": [{"number": number, "name": name.rpartition("/")[2]} for number, name in enumerate(names)],
    }


def _content(text: str) -> dict[str, Any]:
    try:
        return decode(text)
    except FileDamaged:
        return {}


async def _wire(services: Services, token: Token, agent_group: str) -> None:
    """Let an agent answer in the chat of a token that reaches it. Raises `NotFound`, `BudgetUsedUp`."""
    now = to_text(services.clock.now())

    def load(connection: Queryable) -> tuple[MessagingGroup | None, bool, str | None]:
        group = next((each for each in agent_groups.all_groups(connection) if each.name == agent_group), None)
        if group is None or not token.reaches(group.id):
            raise NotFound(
                f"there is no agent '{agent_group[:60]}' that this token reaches", hint="GET /v1/models lists those"
            )
        has_budget = token.budget_usd is not None or token.budget_tokens is not None
        refusal = tokens.spent(connection, token, now).refusal if has_budget else None
        chat = messaging_groups.find(connection, CHANNEL_TYPE, token.name)
        is_wired = chat is not None and messaging_groups.wiring_of(connection, chat.id, group.id) is not None
        return chat, is_wired, refusal or usage.refusal(connection, group, now)

    chat, is_wired, refusal = await services.central.read(load)
    if refusal is not None:
        raise BudgetUsedUp(refusal, hint="wait for its next period, or ask the owner of this host for more")
    if chat is None:
        with suppress(Conflict):  # another request was faster
            # Who has the token may speak there, and no platform leads there.
            await chats.add(services, address=chat_of(token), unknown_sender=UnknownSender.PUBLIC)
    if not is_wired:
        with suppress(Conflict):
            await wirings.add(
                services,
                messaging_group=chat_of(token),
                agent_group=agent_group,
                session_mode=SessionMode.PER_THREAD,
            )


async def has_begun(services: Services, token: Token, agent_group: str, thread: str) -> bool:
    """Whether a conversation of a token with an agent is under way: what was said in it need not be said again."""

    def load(connection: Queryable) -> bool:
        chat = messaging_groups.find(connection, CHANNEL_TYPE, token.name)
        group = next((each for each in agent_groups.all_groups(connection) if each.name == agent_group), None)
        if chat is None or group is None:
            return False
        return bool(routes.active_in_chat(connection, group.id, chat.id, thread))

    return await services.central.read(load)
