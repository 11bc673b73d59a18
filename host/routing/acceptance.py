"""What an event comes to, in one transaction: access, engagement, route, reset, ledger.

Afterwards every agent group that engages has the event in the ledger, exactly once however often the platform sends it.
What cannot be taken up (the conversation is archived, the budget is used up) is kept as failed, and its sender is told.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import field, replace
from datetime import timedelta
from typing import Any

from host.access import answers, gate
from host.access.admission import AdmissionVerdict
from host.access.gate import IncomingMessage
from host.access.standing import Standing
from host.central import (
    agent_groups,
    approvals,
    chat_moves,
    deliveries,
    engaged_threads,
    exchanges,
    ingest,
    messaging_groups,
    questions,
    rate_limits,
    refusals,
    routes,
    sessions,
    unread,
    usage,
)
from host.central.agent_groups import AgentGroup
from host.central.database import Transaction
from host.central.messaging_groups import (
    TERMINAL_CHANNEL,
    Archived,
    Engage,
    MessagingGroup,
    NonEngaging,
    SessionMode,
    Wiring,
)
from host.central.rate_limits import Act
from host.central.sessions import EndReason, Session
from host.routing import commands, triggering, waiting
from host.routing.engage import engages, names
from host.routing.event import Accepted, Event, Receipt
from host.routing.reply import replied_to
from host.routing.route_key import route_key
from host.routing.text import is_blank, preview, truncate
from host.sessions import transitions
from host.sessions.reset import Policy, Reset, reset_due
from host.traceparent import normal
from shared_schema.clock import from_text, to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, InvalidValue, NotFound
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address, MessageInKind, MessageInStatus, encode
from shared_schema.text import without_lone_surrogates

MOST_HEARD = 50
"""Messages that were not meant for an agent and wait as context for its next turn: the newest, and of one day."""
HEARD_FOR = timedelta(hours=24)

_AT_TERMINAL = "terminal"
_MENTIONS = frozenset({Engage.MENTION, Engage.MENTION_STICKY})

ARCHIVED = "This conversation is archived. /resume opens it again, /new begins another one."


@dataclass(frozen=True, slots=True)
class Rules:
    """What acceptance needs to know beside the registry. `is_working` says whether a session's agent does anything."""

    max_text: int
    timezone: str
    is_working: Callable[[str], bool]
    save_memory: bool = False


@dataclass(slots=True)
class RoutingOutcome:
    """What became of an event. `command`: it is one, for the host to carry out; `heard`: sessions with more context."""

    receipt: Receipt
    command: bool = False
    heard: list[str] = field(default_factory=list)


def accept(
    tx: Transaction, event: Event, rules: Rules, *, spool: str | None, names: list[str], size: int = 0
) -> RoutingOutcome:
    """Take an event into the ledger. Its files, called `names`, lie in the folder `spool`, and have `size` bytes.

    Raises `InvalidValue` for identifiers that are missing or malformed, `Conflict` and `NotFound` for a session or
    agent group that a person at the terminal named.
    """
    outcome = _Acceptance(tx, event, rules, spool, names, size).run()
    triggering.offer(tx, event, tx.at)
    return outcome


class _Acceptance:
    """One event on its way into the ledger."""

    def __init__(
        self, tx: Transaction, event: Event, rules: Rules, spool: str | None, names: list[str], size: int
    ) -> None:
        self._tx = tx
        self._event = event
        self._rules = rules
        self._spool = spool
        self._names = names
        self._size = size
        self._agent_groups: dict[str, AgentGroup | None] = {}
        self._command = commands.parse(event.text) if not names and not event.is_literal else None
        self._outcome = RoutingOutcome(Receipt(()), command=self._command is not None)

    def run(self) -> RoutingOutcome:
        event, address = self._event, self._event.address
        event.require_identifiers()
        group = messaging_groups.find(self._tx, address.channel_type, address.platform_id)
        if group is None and (now_at := self._moved_to()) is not None:  # what was said before its chat moved
            event = self._event = replace(event, address=replace(address, platform_id=now_at))
            group = messaging_groups.find(self._tx, address.channel_type, now_at)
        arrival = self._arrival(group)
        if (claimed := gate.claim_owner(self._tx, arrival)) is not None:
            return self._said(claimed)
        if group is None:
            return self._in_unknown_chat(arrival)
        if not self._names and not event.remote_files and is_blank(event.text):
            return self._drop("there is nothing in the message")
        if event.session_id is not None:
            self._outcome.receipt = Receipt((self._take_for(event.session_id),))
            return self._outcome
        wirings = [
            wiring
            for wiring in messaging_groups.wirings_of(self._tx, group.id)
            if event.agent_group is None or event.agent_group == self._name_of(wiring.agent_group_id)
        ]
        if event.agent_group is not None and not wirings:
            raise NotFound(
                f"{group.address} is not wired to '{event.agent_group}'",
                hint=f"wire them with `dumbwaiter wire {group.address} {event.agent_group}`",
            )
        admission, sender = gate.admit(self._tx, arrival, group, wirings)
        if admission.verdict != AdmissionVerdict.ADMITTED or not wirings:
            if self._answers_at_the_door(arrival, sender):
                return self._said("the host has answered")
            if admission.verdict == AdmissionVerdict.ASKED and wirings:
                return self._asked(gate.knock(self._tx, arrival, wirings))
            return self._drop(admission.reason or "no agent group is wired to it")
        return self._take_by(group, list(admission.wirings))

    def _moved_to(self) -> str | None:
        """The id under which the event's chat goes on; None where it has not moved."""
        address = self._event.address
        now_at = chat_moves.current(self._tx, address.channel_type, address.platform_id)
        return None if now_at == address.platform_id else now_at

    def _take_by(self, group: MessagingGroup, wirings: list[Wiring]) -> RoutingOutcome:
        """Take the event for each of the wirings whose rule takes it; others may hear it as context."""
        reason = "no agent group engages with this message"
        taken: list[Accepted] = []
        engaged = self._engaged(group, wirings)
        for wiring in engaged:
            try:
                taken.append(self._offer(group, wiring))
            except InvalidValue as error:  # it cannot be routed for this agent group; others may take it
                reason = error.what
        for wiring in wirings:
            if wiring.non_engaging == NonEngaging.ACCUMULATE and wiring not in engaged and self._command is None:
                with suppress(InvalidValue):
                    self._hear(group, wiring)
                    reason = "an agent group has heard it, and answers when it is meant"
        if not taken:
            if self._outcome.heard:
                self._outcome.receipt = Receipt((), reason)
                return self._outcome
            return self._drop(reason)
        if not all(accepted.duplicate for accepted in taken):
            unread.wrote(self._tx, group.id, self._event.address.thread_id)
        self._outcome.receipt = Receipt(tuple(taken))
        return self._outcome

    def _arrival(self, group: MessagingGroup | None) -> IncomingMessage:
        event = self._event
        return IncomingMessage(
            address=event.address,
            message_id=event.platform_message_id,
            sender=event.sender_id,
            sender_name=None if event.sender_name is None else without_lone_surrogates(event.sender_name),
            text=event.text,
            is_mention=event.is_mention,
            is_group=event.is_group if group is None else bool(group.is_group),
            chat_name=event.chat_name if group is None else group.name,
            is_trusted=event.by_owner
            or (event.address.channel_type == TERMINAL_CHANNEL and event.sender_id in (None, _AT_TERMINAL)),
            waiting=self._waiting,
            files=(*(file.name for file in event.attachments), *(file.name for file in event.remote_files)),
        )

    def _waiting(self) -> dict[str, Any]:
        """The event as it is kept while it waits, with its files as far as there is room for what strangers send."""
        fits = self._spool is not None and self._size <= waiting.MOST_BYTES
        if fits:
            kept = sum(approvals.spools_waiting(self._tx).values())
            fits = kept + self._size <= waiting.MOST_BYTES_IN_ALL
        return waiting.to_json(self._event, self._spool if fits else None, self._names, self._size)

    def _in_unknown_chat(self, arrival: IncomingMessage) -> RoutingOutcome:
        """The event is of a chat that is not registered."""
        if self._answers_at_the_door(arrival, None):
            return self._said("the host has answered")
        if self._names or self._event.remote_files or not is_blank(self._event.text):
            what = gate.ask_to_wire(self._tx, arrival)
            if what is not None:
                return self._asked(what)
        return self._drop(f"no messaging group {arrival.chat} is registered")

    def _answers_at_the_door(self, arrival: IncomingMessage, sender: Standing | None) -> bool:
        """Whether it is a command about the host, which is answered where no agent takes it.

        Who has no role is told who they are in a direct chat, and nothing in a group: that would be a way to make the
        bot talk there.
        """
        command = self._command
        if command is None or not command.entry.host_wide:
            return False
        sender = sender or gate.sender_of(self._tx, arrival)
        if sender is None or (not sender.is_known and arrival.is_group is not False):
            return False
        if not rate_limits.take(self._tx, Act.NOTICE, arrival.chat).allowed:
            return True
        answer = answers.HOST_WIDE[command.name]
        gate.say_once(self._tx, arrival, answer(self._tx, command.argument, sender, arrival.chat))
        return True

    def _said(self, what: str) -> RoutingOutcome:
        self._outcome.command = False
        self._outcome.receipt = Receipt((), what)
        return self._outcome

    def _asked(self, what: str) -> RoutingOutcome:
        """It waits for a decision, or it does not and is counted."""
        outcome = self._said(what)
        return outcome if what == gate.WAITS else self._drop(what)

    def _engaged(self, group: MessagingGroup, wirings: list[Wiring]) -> list[Wiring]:
        """The wirings that take the event: by their rule, or because their agent has asked and waits for the answer.

        A command that no rule takes is for the only agent group there is; one about the host for the first.
        """
        event = self._event
        if self._command is not None and self._command.entry.host_wide:
            return wirings[:1]
        if event.agent_group is not None:
            return wirings
        meant = self._meant(group, wirings)
        engaged = []
        for wiring in wirings:
            is_mention = wiring.agent_group_id in meant if meant else event.is_mention
            if engages(
                wiring.rule,
                wiring.pattern,
                text=event.text,
                is_mention=is_mention,
                is_group=bool(group.is_group),
                was_mentioned=self._was_mentioned(wiring, is_mention=is_mention),
            ) or self._is_answer_to(wiring):
                engaged.append(wiring)
        return wirings if not engaged and self._command is not None and len(wirings) == 1 else engaged

    def _meant(self, group: MessagingGroup, wirings: list[Wiring]) -> set[str]:
        """The agent groups that a message in a group names or replies to: these are mentioned, and no others.

        Empty: none of them in particular, so that the platform's own flag is for all.
        """
        mentions = [wiring for wiring in wirings if wiring.rule in _MENTIONS]
        if not mentions or not group.is_group or (len(mentions) == 1 and self._event.is_mention):
            return set()
        ids = {wiring.agent_group_id for wiring in mentions}
        meant = {each for each in ids if names(self._name_of(each), self._event.text)}
        if self._event.reply_to is not None:
            address = self._event.address
            chat = (address.channel_type, address.platform_id)
            replied = deliveries.said_by(self._tx, chat, self._event.reply_to)
            meant |= {replied} & ids if replied is not None else set()
        return meant

    def _was_mentioned(self, wiring: Wiring, *, is_mention: bool) -> bool:
        """Whether the agent was mentioned in the thread of the event; that it is now is noted."""
        thread_id = self._event.address.thread_id
        if wiring.rule != Engage.MENTION_STICKY or thread_id is None:
            return False
        if is_mention:
            engaged_threads.engage(self._tx, wiring.id, thread_id)
            return True
        return engaged_threads.is_engaged(self._tx, wiring.id, thread_id)

    def _is_answer_to(self, wiring: Wiring) -> bool:
        try:
            key = self._key(wiring)
        except InvalidValue:
            return False
        event = self._event
        return questions.is_open(self._tx, wiring.agent_group_id, key, event.address, event.sender_id, self._tx.now)

    def _key(self, wiring: Wiring) -> str:
        return route_key(
            wiring.session_mode,
            self._event.address,
            agent_group_id=wiring.agent_group_id,
            per_user=bool(wiring.per_user),
            sender_id=self._event.sender_id,
        )

    def _hear(self, group: MessagingGroup, wiring: Wiring) -> None:
        """Keep the event as context of one agent group's conversation: no agent is woken for it."""
        session = self._session(group, wiring)
        if session.status != "active":
            return
        accepted = self._take(session, trigger=False)
        if not accepted.duplicate:
            since = to_text(self._tx.at - HEARD_FOR)
            ingest.cancel_old_heard(self._tx, session.id, MOST_HEARD, since)
        self._outcome.heard.append(session.id)

    def _session(self, group: MessagingGroup, wiring: Wiring) -> Session:
        """The session of the event's route."""
        thread_id = self._event.address.thread_id
        return routes.resolve(
            self._tx,
            agent_group_id=wiring.agent_group_id,
            route_key=self._key(wiring),
            messaging_group_id=group.id if wiring.session_mode != SessionMode.AGENT_SHARED else None,
            thread_id=thread_id if wiring.session_mode == SessionMode.PER_THREAD else None,
            sender_id=self._event.sender_id if wiring.per_user else None,
        )

    def _offer(self, group: MessagingGroup, wiring: Wiring) -> Accepted:
        """Take the event for one agent group."""
        event, address = self._event, self._event.address
        known = ingest.known(
            self._tx, wiring.agent_group_id, address.channel_type, address.platform_id, event.platform_message_id
        )
        if known is not None:
            return self._accepted(known, duplicate=True)
        session = self._session(group, wiring)
        if self._command is not None:
            return self._take(session)
        if wiring.non_engaging == NonEngaging.ACCUMULATE:  # what was heard long ago is not for this turn
            since = to_text(self._tx.at - HEARD_FOR)
            ingest.cancel_old_heard(self._tx, session.id, MOST_HEARD, since)
        session = self._begin_anew(session, wiring, group)
        if session.status == "archived" and wiring.archived == Archived.REOPEN:
            session = transitions.reopen(self._tx, session)
        return self._take(session)

    def _take_for(self, session_id: str) -> Accepted:
        """Take the event for one session, which a person at the terminal named."""
        session = sessions.get(self._tx, session_id)
        if session.status not in ("active", "archived") or not routes.is_active_on_route(self._tx, session):
            raise Conflict(
                f"session {session.id} has ended", hint=f"`dumbwaiter session resume {session.id}` takes it up again"
            )
        return self._take(session)

    def _begin_anew(self, session: Session, wiring: Wiring, group: MessagingGroup) -> Session:
        """The session, or a fresh one in its place when its wiring's time is up."""
        if wiring.reset == Reset.NONE or session.status != "active":
            return session
        policy = Policy(
            Reset(wiring.reset), wiring.reset_minutes, wiring.reset_hour, group.timezone or self._rules.timezone
        )
        due = reset_due(
            policy,
            last_active=from_text(session.last_active),
            now=self._tx.at,
            is_busy=exchanges.is_busy(self._tx, session.id) or self._rules.is_working(session.id),
        )
        if due is None:
            return session
        had_exchange = exchanges.has_one(self._tx, session.id)
        fresh = transitions.new(self._tx, session, EndReason(due.value), save_memory=self._rules.save_memory).after
        if had_exchange:
            self._notice(fresh, None, _begun_anew(due, wiring))
        return fresh

    def _take(self, session: Session, *, trigger: bool = True) -> Accepted:
        event, message_id = self._event, new_id(Prefix.MESSAGE)
        # A text that is too long was kept as a file and cut on its way here; without files it is a command.
        content: dict[str, object] = {"text": event.text if self._names else truncate(event.text, self._rules.max_text)}
        if (reply := replied_to(self._tx, event, session.agent_group_id)) is not None:
            content["reply_to"] = reply
        if self._names:
            content["files"] = [{"name": name, "path": f"inbox/{message_id}/{name}"} for name in self._names]
        row, added = ingest.accept(
            self._tx,
            {
                "message_id": message_id,
                "agent_group_id": session.agent_group_id,
                "session_id": session.id,
                "generation": session.generation,
                "channel_type": event.address.channel_type,
                "platform_id": event.address.platform_id,
                "thread_id": event.address.thread_id,
                "platform_message_id": event.platform_message_id,
                "sender_id": event.sender_id,
                "sender_name": None if event.sender_name is None else without_lone_surrogates(event.sender_name),
                "kind": MessageInKind.CHAT if self._command is None else ingest.COMMAND,
                "trigger": int(trigger and self._command is None),
                "content": encode(content),
                "spool": self._spool,
                "accepted_at": self._tx.now,
                "traceparent": normal(event.traceparent),
            },
        )
        if added and trigger and self._command is None:
            sessions.heard(self._tx, session.id, preview(event.text))
            said = preview(event.text)
            questions.answered(self._tx, session.id, event.address, event.sender_id, said)
            self._refuse_if_must(session, message_id)
        return self._accepted(row, duplicate=not added)

    def _refuse_if_must(self, session: Session, message_id: str) -> None:
        """Fail a message at once that no agent may see, and say why in its chat."""
        if session.status == "archived":
            sentence: str | None = ARCHIVED
        else:
            sentence = usage.refusal(self._tx, self._group_of(session.agent_group_id), self._tx.now)
        if sentence is not None:
            ingest.finish(self._tx, session.id, message_id, MessageInStatus.FAILED, error=sentence)
            self._notice(session, message_id, sentence)

    def _notice(self, session: Session, in_reply_to: str | None, text: str) -> None:
        address = self._event.address
        here = Address(address.channel_type, address.platform_id, address.thread_id)
        deliveries.add_notice(self._tx, session.id, here, in_reply_to, text)

    def _drop(self, reason: str) -> RoutingOutcome:
        event = self._event
        refusals.drop(self._tx, event.address.channel_type, event.address.platform_id, event.sender_id, reason)
        self._outcome.receipt = Receipt((), reason)
        return self._outcome

    def _accepted(self, row: ingest.AcceptedMessage, *, duplicate: bool) -> Accepted:
        return Accepted(row.message_id, row.session_id or "", self._name_of(row.agent_group_id), duplicate)

    def _name_of(self, agent_group_id: str) -> str:
        group = self._group_of(agent_group_id)
        return "" if group is None else group.name

    def _group_of(self, agent_group_id: str) -> AgentGroup | None:
        """The agent group, which nothing here changes: it is read once."""
        if agent_group_id not in self._agent_groups:
            self._agent_groups[agent_group_id] = agent_groups.by_id(self._tx, agent_group_id)
        return self._agent_groups[agent_group_id]


def _begun_anew(due: Reset, wiring: Wiring) -> str:
    if due == Reset.DAILY:
        why = f"one begins every day at {wiring.reset_hour}:00"
    else:
        why = f"the last one had rested for more than {_in_words(wiring.reset_minutes)}"
    return f"A new conversation begins, because {why}. /resume takes it up."


def _in_words(minutes: int) -> str:
    sizes = ((24 * 60, "day"), (60, "hour"), (1, "minute"))
    count, unit = next((minutes // size, unit) for size, unit in sizes if minutes % size == 0)
    return f"a{'n' if unit == 'hour' else ''} {unit}" if count == 1 else f"{count} {unit}s"
