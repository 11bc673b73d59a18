"""Bringing the session's file up to date with the ledger: accepted messages in, then what became of everything.

Each step can be repeated, in the order that makes that safe: files first, then `inbound.db`, then the ledger says so.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Sequence, Set
from concurrent.futures import Future
from hashlib import blake2b

from host.central import (
    agent_groups,
    approvals,
    deliveries,
    home_channels,
    ingest,
    messaging_groups,
    routes,
    sessions,
    turns,
)
from host.central.agent_groups import AgentGroup
from host.central.database import Central, Queryable, Transaction
from host.central.sessions import Relation
from host.latest import Latest
from host.sessions import inbox, initial_transcript
from host.sessions.attachments import unspool
from host.sessions.context import MAX_CHATS, SESSION_WITH_AGENT, ContextInputs, TurnLimits, described, push_of
from host.sessions.folder import Owner, make_session_folder, make_workspace
from host.sessions.host_profile import HostProfile
from host.sessions.inbox import NewMessage, Push, StatusUpdate
from host.sessions.initial_transcript import InitialStep
from host.traceparent import of_message
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileBusy, FileTrouble, NotFound
from shared_schema.layout import DataLayout, SessionLayout
from shared_schema.rows import Address, Delivered, MessageInKind, MessageInStatus, decode, encode

log = logging.getLogger(__name__)

_CHECKED = 200
_MENDED = 5000
"""How many of its newest messages a file is asked for, and how many are looked for once one of those is not there."""

_PUSHED = 10_000
"""Of so many sessions it is known which pushed tables their file has."""

_FILES_ARE_GONE = "\n[the files that came with this message are not there any more]"


@dataclass(frozen=True, slots=True)
class PendingMessages:
    """What was accepted for a session and is not in its file yet, with what the agent must know to answer it."""

    rows: tuple[ingest.AcceptedMessage, ...]
    inputs: ContextInputs


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """What became of messages and deliveries, of which the session's file was not told yet: rows of the ledger."""

    outcomes: tuple[sqlite3.Row, ...]
    sent: tuple[sqlite3.Row, ...]

    def __bool__(self) -> bool:
        return bool(self.outcomes or self.sent)

    @property
    def statuses(self) -> list[StatusUpdate]:
        """The outcomes of messages, as `inbound.db` takes them."""
        return [StatusUpdate(row["message_id"], row["status"], row["tries"]) for row in self.outcomes]

    @property
    def delivered(self) -> list[Delivered]:
        """What became of what was sent, as `inbound.db` takes it."""
        return [_delivered(row) for row in self.sent]

    def mark(self, tx: Transaction, session_id: str) -> None:
        """Note that the file was told. What has changed since it was read stays unrecorded."""
        ingest.mark_recorded(tx, self.outcomes)
        deliveries.mark_recorded(tx, session_id, self.sent)


NOTHING_UNRECORDED = Unrecorded((), ())


class InboxSync:
    """The writer of session folders. Every method blocks.

    `outdated` hears, in any thread, of a session of whose message something became while it was being written.
    """

    def __init__(
        self,
        central: Central,
        layout: DataLayout,
        owner: Owner,
        limits: TurnLimits,
        profile: HostProfile,
        outdated: Callable[[str], object] = lambda session_id: None,
    ) -> None:
        self._central = central
        self._layout = layout
        self._owner = owner
        self._limits = limits
        self._profile = profile
        self._outdated = outdated
        self._unmarked: dict[str, frozenset[str]] = {}
        self._marking = threading.Lock()  # each session has a thread of its own, and the writing thread takes away
        # Which file of a session has which pushed tables; of one that is forgotten they are written anew.
        self._pushed = Latest[str, tuple[int, bytes]](_PUSHED)

    def folder(self, session: sessions.Session) -> SessionLayout:
        """The folder of a session."""
        return self._layout.session(session.agent_group_id, session.id)

    def _mine(self, layout: SessionLayout) -> SessionLayout:
        """The folder to write to, unless another host may do so by now. Raises `FileTrouble`."""
        self._central.require_sole()
        return layout

    def unmarked(self, session_id: str) -> frozenset[str]:
        """The messages that are in the session's file already, which the ledger may not say yet.

        Ask before reading the ledger: what is marked meanwhile is written by both accounts.
        """
        return self._unmarked.get(session_id, frozenset())

    def write(
        self, session: sessions.Session, pending: PendingMessages, unrecorded: Unrecorded = NOTHING_UNRECORDED
    ) -> None:
        """Write messages into the session's folder, and what became of earlier messages, then note that it is there.

        Raises `FileTrouble`, `OSError`; then the rest is written the next time.
        """
        layout = self.folder(session)
        if not layout.inbound.exists():
            self._make_folder(session)
        messages = [self._message(row, session) for row in pending.rows]
        push = push_of(pending.inputs, self._limits, self._profile)
        version = (layout.inbound.stat().st_ino, _digest(push))
        inbox.update(
            self._mine(layout),
            messages=messages,
            push=None if self._pushed.get(session.id) == version else push,
            statuses=unrecorded.statuses,
            delivered=unrecorded.delivered,
            require_sole=self._central.require_sole,
        )
        self._has_pushed(session.id, version)
        written_at = self._central.now()
        ids = frozenset(message.id for message in messages)
        spools = {row.spool for row in pending.rows if row.spool is not None}
        # No message waits for the mark, and it can be repeated: it goes along with the next commit. Until then this
        # process knows what is written, so that it is not written again.
        can_wait = not spools and len(ids) < ingest.ACCEPTED_LIMIT
        if can_wait:
            with self._marking:
                self._unmarked[session.id] = self.unmarked(session.id) | ids
        submit = self._central.submit_with_next if can_wait else self._central.submit

        def mark(tx: Transaction) -> bool:
            is_outdated = ingest.mark_written(tx, ids, written_at)
            unrecorded.mark(tx, session.id)
            return is_outdated

        marked = submit(mark)
        marked.add_done_callback(lambda done: self._tell_if_outdated(session.id, done))
        if can_wait:
            marked.add_done_callback(lambda _: self._are_marked(session.id, ids))
            return
        marked.result()
        for spool in spools:
            if not self._central.read_here(ingest.spool_in_use, spool=spool):
                shutil.rmtree(self._layout.spool / spool, ignore_errors=True)

    def _tell_if_outdated(self, session_id: str, marked: Future[bool]) -> None:
        # A message that was cancelled between the reading of the ledger and this mark is open in the file, and nothing
        # else closes it there: the cancellation found a message that was not written.
        if not marked.cancelled() and marked.exception() is None and marked.result():
            self._outdated(session_id)

    def _are_marked(self, session_id: str, ids: frozenset[str]) -> None:
        """The ledger knows what is written; or it failed to note it, and then it is written again."""
        with self._marking:
            if rest := self._unmarked.get(session_id, frozenset()) - ids:
                self._unmarked[session_id] = rest
            else:
                self._unmarked.pop(session_id, None)

    def clear_spool(self, suspects: Set[str] | None = None) -> set[str]:
        """Remove files that no accepted message needs, and return the names of the folders they were found in.

        While events come in, such a folder may be one whose event is about to be accepted; then `suspects` says which
        ones were found before.
        """
        there = set(os.listdir(self._layout.spool))  # before the question: what comes meanwhile is not among them
        needed = self._central.read_here(lambda c: ingest.spools_in_use(c) | approvals.spools_waiting(c).keys())
        unneeded = there - needed
        for name in unneeded if suspects is None else unneeded & suspects:
            shutil.rmtree(self._layout.spool / name, ignore_errors=True)
        return unneeded

    def write_accepted(self, session_id: str) -> None:
        """Write what was accepted for a session when no host supervises it. Raises as `write`."""

        def load(connection: Queryable) -> tuple[sessions.Session, PendingMessages | None] | None:
            session = sessions.lookup(connection, session_id)
            if session is None:
                return None
            accepted, _ = accepted_of(connection, session_id, unmarked)
            return session, pending_messages(connection, session, accepted)

        unmarked = self.unmarked(session_id)
        while (found := self._central.read_here(load)) is not None and found[1] is not None:
            self.write(found[0], found[1])
            unmarked = self.unmarked(session_id)

    def prepare(self, session: sessions.Session) -> AgentGroup:
        """Make everything ready for an agent to start on: folder, workspace, pushed tables. Its agent group."""
        inputs = self._central.read_here(context_inputs, session)
        group = inputs.agent_group
        make_workspace(self._layout.workspace(group.folder), self._owner, group.instructions)
        self._make_folder(session)
        self._push(session, inputs)
        return inputs.agent_group

    def mend(self, session: sessions.Session) -> list[str]:
        """See that `inbound.db` has what the ledger gave it; what it lacked, as sentences. No agent may live.

        A power cut, a restored backup or a bad disk can take back what was written. Messages that are not there are
        written again, and what the file still calls pending gets the outcome that the ledger has. Raises `FileTrouble`,
        `OSError`.
        """
        layout = self.folder(session)
        if not layout.inbound.exists():
            self._make_folder(session)
        rows = self._central.read_here(ingest.written, session.id, _CHECKED)
        lacking = inbox.missing(layout, [row.message_id for row in rows])
        if lacking and len(rows) >= _CHECKED:  # how far back is it older?
            rows = self._central.read_here(ingest.written, session.id, _MENDED)
            lacking = inbox.missing(layout, [row.message_id for row in rows])
        written = [self._message(row, session) for row in rows if row.message_id in lacking]
        unsure = [*inbox.pending(layout), *(message.id for message in written)]
        standing = self._central.read_here(ingest.standing, session.id, unsure)
        # What the ledger does not know as this session's is not to be answered either.
        statuses = [
            StatusUpdate(row["message_id"], row["status"] or MessageInStatus.CANCELLED, row["tries"])
            for row in standing
            if row["status"] != MessageInStatus.PENDING or (row["tries"] and row["message_id"] in lacking)
        ]
        if not written and not statuses:
            return []
        inbox.update(self._mine(layout), messages=written, statuses=statuses, require_sole=self._central.require_sole)
        known = len(statuses) - sum(1 for row in statuses if row.message_id in lacking)
        said = []
        if written:
            said.append(f"inbound.db lacked what was written to it ({len(written)} messages), and has it again")
        if known:
            said.append(f"inbound.db asked again for what has its outcome ({known} messages), and says so now")
        return said

    def put_aside(self, session: sessions.Session, stamp: str) -> str:
        """Put an `inbound.db` that is no good aside, with a fresh one in its place; what was done, as a sentence.

        No agent may live. Raises `FileTrouble`, `OSError`.
        """
        kept = inbox.put_aside(self._mine(self.folder(session)), stamp)
        self._make_folder(session)
        return f"inbound.db could not be read; it is kept as {kept}, and a new one is made from the ledger"

    def push(self, session: sessions.Session) -> None:
        """Rewrite routing, destinations and context, after one of them was changed."""
        inputs = self._central.read_here(context_inputs, session)
        if self.folder(session).inbound.exists():
            self._push(session, inputs)

    def _push(self, session: sessions.Session, inputs: ContextInputs) -> None:
        push = push_of(inputs, self._limits, self._profile)
        inbox.update(self._mine(self.folder(session)), push=push, require_sole=self._central.require_sole)
        self._has_pushed(session.id, (self.folder(session).inbound.stat().st_ino, _digest(push)))

    def _has_pushed(self, session_id: str, version: tuple[int, bytes]) -> None:
        with self._marking:
            self._pushed[session_id] = version

    def record(self, session: sessions.Session, known: Unrecorded = NOTHING_UNRECORDED) -> None:
        """Tell `inbound.db` what became of messages and deliveries since it was told last.

        `known` is what the caller has just read of that; without anything in it, the ledger is asked.
        """
        unrecorded = known or self._central.read_here(unrecorded_of, session.id)
        if not unrecorded:
            return
        if not self.folder(session).inbound.exists():
            self._make_folder(session)
        inbox.update(
            self._mine(self.folder(session)),
            statuses=unrecorded.statuses,
            delivered=unrecorded.delivered,
            require_sole=self._central.require_sole,
        )

        def mark(tx: Transaction) -> None:
            unrecorded.mark(tx, session.id)

        self._central.submit(mark).result()

    def _make_folder(self, session: sessions.Session) -> None:
        """Make the session's folder, with what it goes on from. Idempotent; raises `FileTrouble`, `OSError`."""
        layout = self.folder(session)
        steps = () if os.path.lexists(layout.outbound) else self._initial_steps(session)
        make_session_folder(self._mine(layout), self._owner, steps=steps)

    def _initial_steps(self, session: sessions.Session) -> Sequence[InitialStep]:
        """The steps a session begins with. Raises `FileBusy` while its parent's file is being written."""
        if session.parent_relation == Relation.COMPRESSED and session.summary is not None:
            return initial_transcript.of_summary(session.summary, session.created_at)
        if session.parent_relation != Relation.BRANCHED or session.parent_session_id is None:
            return ()
        parent_id = session.parent_session_id
        parent, withdrawn = self._central.read_here(
            lambda c: (sessions.lookup(c, parent_id), turns.withdrawn(c, parent_id))
        )
        if parent is None or not self.folder(parent).inbound.exists():
            return ()
        try:
            return initial_transcript.of_branch(self.folder(parent), withdrawn)
        except FileBusy:
            raise
        except FileTrouble as error:  # an agent spoilt it: the branch begins empty
            log.warning("a branch cannot take over its parent", extra={"session_id": session.id, "error": str(error)})
            return ()

    def _message(self, row: ingest.AcceptedMessage, session: sessions.Session) -> NewMessage:
        """A message as its agent sees it."""
        redaction = self._profile.redaction
        return NewMessage(
            id=row.message_id,
            kind=row.kind,
            timestamp=row.accepted_at,
            generation=row.generation,
            trigger=row.trigger,
            address=redaction.address(Address(row.channel_type, row.platform_id, row.thread_id)),
            sender_id=redaction.person(row.channel_type, row.sender_id),
            sender_name=redaction.name(row.channel_type, row.sender_name),
            content=self._told(self._bring_files(row, session), row, session),
        )

    def _told(self, text: str, row: ingest.AcceptedMessage, session: sessions.Session) -> str:
        """The content with what an agent must know beside it.

        Where it was said, when its session has several chats; and its place in a trace, for what it is handed on to.
        """
        has_many = session.messaging_group_id is None and row.kind == MessageInKind.CHAT
        is_traced = self._profile.is_traced or row.traceparent is not None
        if not has_many and not is_traced and '"reply_to"' not in text:
            return text
        content = decode(text)
        if is_traced:
            content["traceparent"] = of_message(row.message_id, row.traceparent).header
        if isinstance(reply := content.get("reply_to"), dict) and "sender" in reply:
            content["reply_to"] = reply | {"sender": self._profile.redaction.name(row.channel_type, reply["sender"])}
        if has_many:
            chat = self._central.read_here(messaging_groups.find, row.channel_type, row.platform_id)
            if chat is not None:
                content["chat"] = described(chat, self._profile)
        return encode(content)

    def _bring_files(self, row: ingest.AcceptedMessage, session: sessions.Session) -> str:
        """Bring a message's files into the session. Returns its content, which names those that were removed."""
        if row.spool is None:
            return row.content
        content = decode(row.content)
        source = self._layout.spool / row.spool
        if not source.is_dir() and session.parent_session_id is not None:  # it was handed on from there
            source = self._layout.session(session.agent_group_id, session.parent_session_id).inbox / row.message_id
        kept = self.folder(session).inbox / row.message_id
        if not source.is_dir() and kept.is_dir():  # it was written before, and only its row was lost
            return row.content
        if source.is_dir():
            names = [file["name"] for file in content["files"]]
            unspool(source, names, self.folder(session), row.message_id, self._owner)
            return row.content
        return encode({"text": content["text"] + _FILES_ARE_GONE})


def unrecorded_of(connection: Queryable, session_id: str) -> Unrecorded:
    """Of what the session's file was not told yet."""
    outcomes, sent = ingest.unrecorded(connection, session_id), deliveries.unrecorded(connection, session_id)
    return Unrecorded(tuple(outcomes), tuple(sent))


def accepted_of(
    connection: Queryable, session_id: str, unmarked: Set[str]
) -> tuple[Sequence[ingest.AcceptedMessage], Sequence[ingest.AcceptedMessage]]:
    """What the ledger calls accepted, oldest first: what is to be written, and what is in the file (`unmarked`)."""
    rows = ingest.accepted(connection, session_id, ingest.ACCEPTED_LIMIT + len(unmarked))
    new = [row for row in rows if row.message_id not in unmarked]
    return new[: ingest.ACCEPTED_LIMIT], [row for row in rows if row.message_id in unmarked]


def pending_messages(
    connection: Queryable, session: sessions.Session, rows: Sequence[ingest.AcceptedMessage]
) -> PendingMessages | None:
    """These rows with what the agent must know to answer them; None for none."""
    return PendingMessages(tuple(rows), context_inputs(connection, session)) if rows else None


def context_inputs(connection: Queryable, session: sessions.Session) -> ContextInputs:
    """All that the context of a session is made from. Raises `NotFound` when its agent group is gone."""
    # As it is now: the caller may have read it before it waited for the session, and meanwhile a run or another
    # generation began. An agent that is told an earlier run's number ends.
    session = sessions.lookup(connection, session.id) or session
    group = agent_groups.by_id(connection, session.agent_group_id)
    if group is None:
        raise NotFound(f"the agent group of session {session.id} is gone")
    chat = None
    if session.messaging_group_id is not None:
        chat = messaging_groups.by_id(connection, session.messaging_group_id)
    one_person = routes.route_of(connection, session).sender_id is not None
    shared = not one_person and session.kind != SESSION_WITH_AGENT and (chat is None or bool(chat.is_group))
    speaker = MessageInKind.AGENT if session.kind == SESSION_WITH_AGENT else MessageInKind.CHAT
    homes = home_channels.of(connection, group.id)
    return ContextInputs(
        session=session,
        agent_group=group,
        messaging_group=chat,
        destinations=tuple(home_channels.reachable(connection, group.id, homes)),
        shared=shared,
        routing=ingest.last_address(connection, session.id),
        person=None if shared else ingest.first_sender(connection, session.id, speaker),
        connected=tuple(messaging_groups.wired_to(connection, group.id, MAX_CHATS + 2)),
        homes=tuple(homes),
        withdrawn=tuple(turns.withdrawn(connection, session.id)),
    )


def _digest(push: Push) -> bytes:
    """What tells one content of the pushed tables from another; the tables themselves are too much to keep."""
    return blake2b(repr(push).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _delivered(row: sqlite3.Row) -> Delivered:
    return Delivered(
        message_out_id=row["message_out_id"],
        status=row["status"],
        platform_message_id=row["platform_message_id"],
        error=row["error"],
        attempts=row["attempts"],
        delivered_at=row["finished_at"],
    )
