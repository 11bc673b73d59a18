"""The only writer of `outbound.db`, holding the only connection to it.

Invariants:
- a message is acknowledged (`completed`, `failed`) in the transaction that ends the turn it was consumed by;
- at most one turn is `running`, and every ack `processing` is of that turn;
- a turn that another process has given back cannot be ended: the late process gets a `Conflict`;
- nothing is written by a run that is not the present one (`fence.py`): the file names the run that took it over last.

Opening for write is also what rolls back the journal of a predecessor that was killed in mid-commit.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, field
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar

from container_agent import statements as sql
from container_agent import usage_accounting
from container_agent.fence import Fence, Superseded, has_taken_over, no_fence
from container_agent.providers.protocol import Reply, Step, TurnResult, Usage
from container_agent.usage_accounting import RecordedTotals
from shared_schema.background import PROCESSES
from shared_schema.clock import Clock, to_text
from shared_schema.database import open_writer, snapshot, transaction, translate
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import SessionLayout
from shared_schema.mcp_notices import NOTIFICATIONS
from shared_schema.migrate import CONTRACT_VERSION, OUTBOUND, migrate
from shared_schema.rows import DRAFT, AckStatus, AgentPhase, FailureReason, MessageIn, TurnStatus, encode

_RESUME, _NOTE_TOLD, _USAGE, _OWED = "resume", "note_told", "usage", "owed"
_FAILURES_TOLD = "failures_told"  # the keys in session_state
_RUN = "run"  # the run that took the file over last
_STOPPED = "the turn was stopped"
_NEWEST = 20
"""Messages of which a failure is still told."""
_LEARNED = "learned "

_Form = TypeVar("_Form", dict[str, Any], list[Any])

About: TypeAlias = tuple[str | None, int | None, int | None, int, str | None, str | None, str | None, str | None]
"""The columns of a turn from `provider_session_id` on."""


@dataclass(frozen=True, slots=True)
class RunningTurn:
    """The turn that runs now; `generation` is the session's when it began.

    `resume` is the pointer it was given; `tells_note` says that it tells the model the reset note,
    `tells_failures` which messages of its own it tells that they never arrived.
    """

    id: str
    generation: int
    messages: tuple[MessageIn, ...]
    provider: str = ""
    resume: str = ""
    tells_note: bool = False
    tells_failures: tuple[str, ...] = ()

    @property
    def answers(self) -> str:
        """What a reply answers when it does not say: the last message that triggers."""
        return next((message.id for message in reversed(self.messages) if message.trigger), self.messages[-1].id)


@dataclass(frozen=True, slots=True)
class TurnFailure:
    """Why a turn failed: the reason for the host, one sentence for the person who asked, and what it used anyway.

    `detail` is what the service said itself, `stop_reason` why its last answer ended.
    """

    reason: FailureReason
    sentence: str
    usage: Usage = field(default_factory=Usage)
    detail: str = ""
    stop_reason: str | None = None


_BUSY_SECONDS = 15.0
"""How long a commit waits for a reader: a person may be looking at the file. Well below what counts as silence."""


class Outbox:
    """Writes one `outbound.db`. Every method is one transaction; each raises `FileTrouble` and then changed nothing."""

    def __init__(self, session: SessionLayout, clock: Clock, fence: Fence | None = None) -> None:
        self.fence = fence or no_fence()
        self.fence.begin()  # before the file is opened, which may write: a journal is rolled back, a schema brought up
        self._path = session.outbound
        self._clock = clock
        self._phase: AgentPhase | None = None
        self._passing = frozenset({_OWED, DRAFT})  # keys of session_state that the end of a turn takes away, if there
        self._connection = open_writer(self._path, busy_seconds=_BUSY_SECONDS)
        # An agent before this one may have been hostile: text that is no UTF-8 must not end every agent after it.
        self._connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        with self._translated():
            migrate(self._connection, OUTBOUND, ahead=1)
            self._is_fresh = self._connection.execute(sql.ANY_COMPLETED_TURN).fetchone() is None

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    @property
    def is_fresh(self) -> bool:
        """Whether no turn of this session was ever completed."""
        return self._is_fresh

    def recover(self) -> int:
        """Give back what a dead process left behind; returns how many turns that were.

        Its running turn has failed; its messages are pending again; what it sent stays sent. What its steps say it used
        is counted with the next turn: the host has closed its books on this one.
        """
        with self._transaction(takes_over=True) as now:
            self._passing = frozenset({_OWED})
            if said := [row["usage"] for row in self._connection.execute(sql.USED_IN_RUNNING_TURNS)]:
                self._set_value(_OWED, encode(asdict(usage_accounting.of_texts([*said, *self._owed()]))), now)
            died = self._connection.execute(sql.FAIL_RUNNING_TURNS, (now, FailureReason.AGENT_DIED)).rowcount
            self._connection.execute(sql.DELETE_PROCESSING_ACKS)
            self._connection.execute(sql.DELETE_STATE_VALUE, (DRAFT,))
            self._connection.execute(sql.DELETE_STATE_VALUE, (PROCESSES,))  # they are gone, and the host has seen it
            self._set_state(AgentPhase.STARTING, None, now)
        return died

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One state of the file for all that the block reads, behind one lock: on a network mount each lock asks its
        server four times."""
        with self._translated(), snapshot(self._connection):
            yield

    def acknowledged(self, message_ids: Collection[str]) -> set[str]:
        """Which of these messages, for which the host still waits, have an acknowledgement.

        That of an earlier run counts for nothing, as with the host: what it took of that run it has told `inbound.db`
        before this one was started. The rest is of a start that was given up and carried out late, and its answer
        reaches no person.
        """
        with self._translated():
            values = (json.dumps(list(message_ids)), self.fence.run, self.fence.run)
            rows = self._connection.execute(sql.ACKNOWLEDGED, values)
            return {row["message_id"] for row in rows}

    def resume_pointer(self, generation: int, provider: str) -> str | None:
        """The provider's pointer recorded in this generation, empty after it was refused; None when none was."""
        recorded = self._recorded(_RESUME, dict)
        if recorded.get("generation") != generation or recorded.get("provider", provider) != provider:
            return None
        return str(recorded.get("pointer", ""))

    def is_note_told(self, generation: int) -> bool:
        """Whether a turn that told the reset note was completed in this generation."""
        return self._state(_NOTE_TOLD) == str(generation)

    def history(self, withdrawn: Sequence[str]) -> list[Step]:
        """The transcript as far as it counts, in order; `withdrawn` are turns that do not."""
        with self._translated():
            return [Step(*row) for row in self._connection.execute(sql.HISTORY, (json.dumps(withdrawn),))]

    def name_of(self, message_id: str) -> str | None:
        """`out-<seq>` for the id of a message that went out."""
        return self._named(sql.OUT_SEQ, (message_id,))

    def last_message(self, generation: int) -> str:
        """Returns `out-<seq>` of the newest message of this generation that people can see; empty before the first."""
        return self._named(sql.LAST_MESSAGE, (generation,)) or ""

    def newest_messages(self, generation: int) -> dict[str, str]:
        """The ids of the newest messages of this generation with their names, of which no failure was told yet."""
        told = self._recorded(_FAILURES_TOLD, list)
        with self._translated():
            rows = self._connection.execute(sql.NEWEST_MESSAGES, (generation, _NEWEST)).fetchall()
        return {row["id"]: f"out-{row['seq']}" for row in rows if row["id"] not in told}

    def _named(self, statement: str, values: tuple[object, ...]) -> str | None:
        with self._translated():
            row = self._connection.execute(statement, values).fetchone()
        return None if row is None else f"out-{row['seq']}"

    def begin_turn(
        self,
        messages: tuple[MessageIn, ...],
        *,
        generation: int,
        provider: str,
        model: str,
        resume: str = "",
        tells_note: bool = False,
        tells_failures: tuple[str, ...] = (),
    ) -> RunningTurn:
        """Take a batch: the turn runs, its messages are `processing`."""
        turn = RunningTurn(new_id(Prefix.TURN), generation, messages, provider, resume, tells_note, tells_failures)
        with self._transaction() as now:
            values = (turn.id, now, provider, model or None, generation, self.fence.run)
            self._connection.execute(sql.INSERT_TURN, values)
            self._insert_acks([message.id for message in messages], AckStatus.PROCESSING, turn.id, None, now)
            self._set_state(AgentPhase.WORKING, turn.id, now)
        return turn

    def join_turn(self, turn: RunningTurn, message: MessageIn) -> None:
        """Make a message part of a turn that runs: it gets its acknowledgement with the others."""
        with self._transaction() as now:
            self._insert_acks([message.id], AckStatus.PROCESSING, turn.id, None, now)

    def append_message(self, turn: RunningTurn, message_id: str, reply: Reply) -> None:
        """Send in mid-turn. The reply's files are in `outbox/<message_id>/` already."""
        with self._transaction() as now:
            self._insert_message(turn, message_id, reply, now)

    def append_steps(self, turn: RunningTurn, steps: Sequence[Step]) -> None:
        """Add to the transcript in mid-turn."""
        with self._transaction() as now:
            self._insert_steps(turn, steps, now)

    def set_tool(self, turn: RunningTurn, name: str | None, seconds: float | None) -> None:
        """Say which tool runs, and until when it may."""
        deadline = None if seconds is None else to_text(self._clock.now() + timedelta(seconds=seconds))
        with self._transaction() as now:
            self._set_state(self._phase or AgentPhase.WORKING, turn.id, now, tool=(name, deadline))

    def set_draft(self, text: str) -> None:
        """Show how far the answer has come that is being written."""
        with self._transaction() as now:
            self._set_value(DRAFT, text, now)
            self._passing |= {DRAFT}

    def set_processes(self, value: str) -> None:
        """Say which background processes there are."""
        with self._transaction() as now:
            self._set_value(PROCESSES, value, now)

    def set_notifications(self, value: str) -> None:
        """Say what MCP servers have notified of."""
        with self._transaction() as now:
            self._set_value(NOTIFICATIONS, value, now)

    def end_turn(
        self, turn: RunningTurn, result: TurnResult, message_ids: Sequence[str], *, phase: AgentPhase = AgentPhase.IDLE
    ) -> None:
        """The turn went well: its last messages and steps, its usage, and the acknowledgement of what it consumed.

        `message_ids` are those of `result.replies`, one each. Raises `Conflict` when the turn does not run any more.
        """
        with self._transaction() as now:
            for message_id, reply in zip(message_ids, result.replies, strict=True):
                self._insert_message(turn, message_id, reply, now)
            self._insert_steps(turn, result.steps, now)
            pointer = result.provider_session_id or None
            if pointer or result.resume_refused:
                recorded = {"generation": turn.generation, "provider": turn.provider, "pointer": pointer or ""}
                self._set_value(_RESUME, encode(recorded), now)
            if turn.tells_note:
                self._set_value(_NOTE_TOLD, str(turn.generation), now)
            if turn.tells_failures:
                told = [*turn.tells_failures, *self._recorded(_FAILURES_TOLD, list)]
                self._set_value(_FAILURES_TOLD, json.dumps(told[: 2 * _NEWEST]), now)
            about = (
                pointer,
                result.context_tokens,
                result.context_window,
                int(result.resume_refused),
                result.stop_reason,
                result.detail or None,
                result.model,
                result.fallback or None,
            )
            self._finish(turn, TurnStatus.COMPLETED, None, self._usage(turn, result, now), now, about)
            self._connection.execute(sql.SET_ACKS, (AckStatus.COMPLETED, None, now, turn.id))
            self._set_state(phase, None, now)
        self._is_fresh = False

    def fail_turn(self, turn: RunningTurn, failure: TurnFailure, *, phase: AgentPhase = AgentPhase.IDLE) -> None:
        """The turn failed, and its messages with it. Raises `Conflict` when the turn does not run any more."""
        with self._transaction() as now:
            about = (None, None, None, 0, failure.stop_reason, failure.detail or None, None, None)
            self._finish(turn, TurnStatus.FAILED, failure.reason, failure.usage, now, about)
            self._connection.execute(sql.SET_ACKS, (AckStatus.FAILED, failure.sentence, now, turn.id))
            self._set_state(phase, None, now)

    def stop_turn(self, turn: RunningTurn, usage: Usage, *, phase: AgentPhase = AgentPhase.IDLE) -> None:
        """The host took the turn's messages back: it is over, and they are not taken again.

        What it said and did stays. Messages that joined it are pending again: one may have come after that. Raises
        `Conflict` when the turn does not run any more.
        """
        with self._transaction() as now:
            self._finish(turn, TurnStatus.CANCELLED, FailureReason.STOPPED, usage, now)
            self._connection.execute(sql.DELETE_ACKS, (turn.id,))
            self._insert_acks([message.id for message in turn.messages], AckStatus.FAILED, turn.id, _STOPPED, now)
            self._set_state(phase, None, now)

    def give_back(self, turn: RunningTurn, usage: Usage, *, phase: AgentPhase = AgentPhase.IDLE) -> None:
        """The agent has to go in mid-turn: the messages are pending again. Raises `Conflict` when it does not run."""
        with self._transaction() as now:
            self._finish(turn, TurnStatus.CANCELLED, None, usage, now)
            self._connection.execute(sql.DELETE_ACKS, (turn.id,))
            self._set_state(phase, None, now)

    def acknowledge(self, message_ids: Sequence[str], *, error: str | None = None) -> None:
        """Acknowledge messages that need no turn, as failed when there is an error."""
        status = AckStatus.COMPLETED if error is None else AckStatus.FAILED
        with self._transaction() as now:
            self._insert_acks(message_ids, status, None, error, now)

    def _insert_acks(
        self, message_ids: Sequence[str], status: AckStatus, turn_id: str | None, error: str | None, now: str
    ) -> None:
        if self.fence.run is not None:
            earlier = [(message_id, self.fence.run) for message_id in message_ids]
            self._connection.executemany(sql.DELETE_EARLIER_ACK, earlier)
        rows = [(message_id, status, turn_id, error, now) for message_id in message_ids]
        self._connection.executemany(sql.INSERT_ACK, rows)

    def learned(self, name: str) -> str:
        """What a provider has learned in this session under a name; empty when nothing."""
        return self._state(_LEARNED + name) or ""

    def learn(self, name: str, text: str) -> None:
        """Keep something for later turns of this session."""
        with self._transaction() as now:
            self._set_value(_LEARNED + name, text, now)

    def set_phase(self, phase: AgentPhase, turn: RunningTurn | None = None) -> None:
        """Say what the agent is doing; writes only what is new."""
        if phase is not self._phase:
            with self._transaction() as now:
                self._set_state(phase, turn.id if turn else None, now)

    def _insert_message(self, turn: RunningTurn, message_id: str, reply: Reply, now: str) -> None:
        content: dict[str, object] = {**reply.details, "text": reply.text}
        if reply.files:
            content["files"] = [file.name for file in reply.files]
        answers = reply.in_reply_to or turn.answers
        self._connection.execute(
            sql.INSERT_MESSAGE,
            (message_id, turn.id, answers, turn.generation, now, reply.kind, reply.destination, encode(content)),
        )

    def _insert_steps(self, turn: RunningTurn, steps: Sequence[Step], now: str) -> None:
        self._connection.executemany(sql.INSERT_STEP, [(turn.id, *_columns(step), now) for step in steps])

    def _finish(
        self,
        turn: RunningTurn,
        status: TurnStatus,
        reason: FailureReason | None,
        usage: Usage,
        now: str,
        about: About = (None, None, None, 0, None, None, None, None),
    ) -> None:
        if _OWED in self._passing:
            usage = usage_accounting.added(usage, usage_accounting.of_texts(self._owed()))
        self._connection.executemany(sql.DELETE_STATE_VALUE, [(key,) for key in self._passing])
        self._passing = frozenset()
        values = (status, now, reason, *usage_accounting.numbers(usage), *about, turn.id)
        if self._connection.execute(sql.FINISH_TURN, values).rowcount != 1:
            raise Conflict("the turn does not run any more: another agent has taken over this session", where=turn.id)

    def _usage(self, turn: RunningTurn, result: TurnResult, now: str) -> Usage:
        """What the turn used; where the count of a provider's whole session stands is recorded."""
        if not result.cumulative:
            return result.usage
        resumed = "" if result.resume_refused else turn.resume
        session = f"{turn.provider} {result.provider_session_id or resumed}"
        usage, recorded = usage_accounting.since(RecordedTotals.from_text(self._state(_USAGE)), session, result.usage)
        self._set_value(_USAGE, recorded.to_text(), now)
        return usage

    def _owed(self) -> list[str]:
        """What turns used that died, and that no turn was charged with yet."""
        owed = self._state(_OWED)
        return [] if owed is None else [owed]

    def _state(self, key: str) -> str | None:
        with self._translated():
            row = self._connection.execute(sql.STATE_VALUE, (key,)).fetchone()
        return None if row is None else row["value"]

    def _recorded(self, key: str, form: type[_Form]) -> _Form:
        """A value of the agent's own that is JSON; an empty one for what an agent before this one has broken."""
        try:
            value = json.loads(self._state(key) or "null")
        except ValueError:
            value = None
        return value if isinstance(value, form) else form()

    def _set_value(self, key: str, value: str, now: str) -> None:
        self._connection.execute(sql.SET_STATE_VALUE, (key, value, now))

    def _set_state(
        self, phase: AgentPhase, turn_id: str | None, now: str, tool: tuple[str | None, str | None] = (None, None)
    ) -> None:
        self._connection.execute(sql.SET_AGENT_STATE, (phase, *tool, turn_id, CONTRACT_VERSION, now))
        self._phase = phase

    @contextmanager
    def _transaction(self, *, takes_over: bool = False) -> Iterator[str]:
        """One transaction; gives the time it is stamped with. What is remembered of the file is rolled back with it.

        `takes_over`: this run begins to write. Raises `Superseded` when it is not the one that may.
        """
        remembered = self._phase, self._passing
        self.fence.require_fresh()
        try:
            with self._translated(), transaction(self._connection):
                now = to_text(self._clock.now())
                if takes_over:
                    self._take_over(now)
                else:
                    self._require_taken_over()
                yield now
                # Last: this may have waited for the file, or slept. On a mount without locks nothing else would tell.
                self.fence.require_fresh()
        except BaseException:
            self._phase, self._passing = remembered
            raise

    def _take_over(self, now: str) -> None:
        """From this commit on, an earlier run that is still there commits nothing more: the lock orders them.

        The present run is looked at within the lock, too: one that slept since its last look takes nothing over from a
        later one, which was begun before it could lock the file.
        """
        self.fence.look()
        if self.fence.run is not None:
            self._set_value(_RUN, str(self.fence.run), now)

    def _require_taken_over(self) -> None:
        # Asked while the file is locked: a freeze between this and the commit keeps every other run from the file.
        if self.fence.run is None:
            return
        row = self._connection.execute(sql.STATE_VALUE, (_RUN,)).fetchone()
        if not has_taken_over(self.fence.run, None if row is None else row["value"]):
            raise Superseded("another run has taken this session over", where=self._path)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translate(error, self._path) from error


def _columns(step: Step) -> tuple[object, ...]:
    return tuple(getattr(step, name) for name in Step.__match_args__)
