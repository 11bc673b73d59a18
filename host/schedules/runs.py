"""Beginning and ending runs. Each function is one step in its caller's transaction, and decides by what stands there.

Invariants:
- the run, its session, its message in the ledger and the next due time are one transaction: a host that dies before it
  has changed nothing, and one that dies after it finds all of it at its next start;
- a schedule whose run goes on is not due;
- a run that does not take place is a row as well, with why.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

from host.central import (
    agent_groups,
    ingest,
    messaging_groups,
    rate_limits,
    routes,
    schedule_runs,
    schedules,
    sessions,
    triggers,
    usage,
)
from host.central.database import Queryable, Transaction, is_of_a_row
from host.central.rate_limits import Act
from host.central.schedule_runs import RunState
from host.central.schedules import Schedule
from host.central.sessions import EndReason, Session
from host.central.triggers import Trigger
from host.routing.route_key import route_key
from host.schedules import place
from host.schedules.catch_up import Missed, Plan, plan, was_set_back
from host.schedules.heartbeat import HeartbeatFacts, prompt, reason_to_rest
from host.schedules.outcome import RunOutcome, Said, outcome
from host.schedules.owner import tell
from host.schedules.recurrence import Kind, Recurrence, first, last_until, stored
from host.schedules.template import MOST_EVENTS, filled
from host.schedules.when import at_in_words, hours, is_within, next_at, span
from shared_schema.clock import from_text, to_text
from shared_schema.errors import Conflict, NotFound
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address, MessageInKind, encode

log = logging.getLogger(__name__)

BY_HAND = "by hand"
DUE = "due"
_HOUR = timedelta(hours=1)
_OF_ITSELF = timedelta(seconds=5)
AT_ONCE = 10
"""How many runs begin or end in one transaction: others of the host do not wait for all of a thousand."""


def recurrence_of(schedule: Schedule) -> Recurrence:
    """When a schedule recurs."""
    return Recurrence(Kind(schedule.kind), schedule.spec, schedule.timezone)


def start_due(tx: Transaction, now: datetime, facts: Mapping[str, HeartbeatFacts] = MappingProxyType({})) -> bool:
    """Begin what is due, in the order of its time; nothing while everything is paused. Whether there is more at once.

    `facts` are of the workspaces of heartbeats, by schedule; a heartbeat without any stays due.
    """
    stamp = to_text(now)
    if schedules.paused(tx) is not None:
        return False
    due = schedules.due(tx, stamp, AT_ONCE)
    for schedule in due:
        if schedule.is_heartbeat and schedule.id not in facts:
            continue
        try:
            with tx.part("one_schedule"):  # what the host fails over holds up no other schedule
                _take(tx, schedule, now, facts.get(schedule.id))
        except Exception as error:  # the boundary of one schedule
            if not is_of_a_row(error):  # all of it is done again
                raise
            log.exception("a schedule cannot be handled", extra={"schedule": schedule.name})
            why = f"the host failed over it: {type(error).__name__}"
            schedules.set_status(tx, schedule.id, "paused", why)
            _note(tx, schedule, schedule.next_at or stamp, stamp, RunState.FAILED, why)
            tell(tx, schedule, f"broken-{stamp}", f"The schedule '{schedule.name}' is paused: {why}.", stamp)
    return len(due) == AT_ONCE


def _take(tx: Transaction, schedule: Schedule, now: datetime, facts: HeartbeatFacts | None) -> None:
    """Begin the run of one schedule that is due, or note why there is none."""
    assert schedule.next_at is not None
    if (trigger := triggers.of_schedule(tx, schedule.id)) is not None:
        _take_events(tx, schedule, trigger, now)
        return
    due = from_text(schedule.next_at)
    found = plan(recurrence_of(schedule), due, now, Missed(schedule.missed))
    ends = None if schedule.ends_at is None else from_text(schedule.ends_at)
    if ends is not None and found.run is not None and found.run > ends:  # what is made up for was due before its end
        found = replace(found, run=last_until(recurrence_of(schedule), due, ends))
    _advance(tx, schedule, found, to_text(now))
    if facts is not None:
        if not _is_awake(tx, schedule, now):
            return
        if (why := _rests(tx, schedule, facts, now)) is not None:
            _note(tx, schedule, to_text(found.run or now), to_text(now), RunState.SKIPPED, why)
            return
        schedule = replace(schedule, prompt=prompt(facts.text or "", _last_beat(tx, schedule)))
        schedules.note_seen(tx, schedule.id, ingest.newest(tx))
    if found.run is None:
        _note_missed(tx, schedule, found, to_text(now))
    else:
        _begin(tx, schedule, found, now)


def _take_events(tx: Transaction, schedule: Schedule, trigger: Trigger, now: datetime) -> None:
    """Begin the run that events have made due; later, when there were as many in an hour as there may be."""
    stamp = to_text(now)
    if triggers.runs_since(tx, schedule.id, to_text(now - _HOUR)) >= trigger.per_hour:
        schedules.plan(tx, schedule.id, to_text(now + _HOUR / 2), stamp)
        why = f"it has run {trigger.per_hour} times in an hour, which is its limit: what comes waits"
        _note(tx, schedule, stamp, stamp, RunState.SKIPPED, why)
        if rate_limits.take(tx, Act.TRIGGER, schedule.id).is_first:
            tell(tx, schedule, f"limit-{stamp[:13]}", f"The schedule '{schedule.name}' waits: {why}.", stamp)
        return
    schedules.plan(tx, schedule.id, None, stamp)
    texts = triggers.take(tx, trigger, MOST_EVENTS, now)
    if not texts:
        return
    if schedule.max_runs is not None and schedule.runs + 1 >= schedule.max_runs:
        schedules.set_status(tx, schedule.id, "done", f"it has run {schedule.max_runs:,} times")
    filled_in = replace(schedule, prompt=filled(schedule.prompt, texts))
    _begin(tx, filled_in, Plan(now, None), now)


def _is_awake(tx: Transaction, schedule: Schedule, now: datetime) -> bool:
    """Whether it is in the active hours of a heartbeat; else it is due again when they begin."""
    if schedule.hours is None:
        return True
    begin, end = hours(schedule.hours)
    if is_within(begin, end, schedule.timezone, now):
        return True
    schedules.plan(tx, schedule.id, to_text(next_at(begin, schedule.timezone, now)), to_text(now))
    return False


def _rests(connection: Queryable, schedule: Schedule, facts: HeartbeatFacts, now: datetime) -> str | None:
    """Why a heartbeat does not wake its agent."""
    facts = replace(facts, has_new_message=schedules.has_new_message(connection, schedule))
    last = schedule_runs.last_begun(connection, schedule.id)
    last_at = None
    if last is not None:  # what the agent itself changed then is no news
        last_at = from_text(last.finished_at or last.started_at) + _OF_ITSELF
    return reason_to_rest(facts, last_at, schedule.timezone, now)


def _last_beat(connection: Queryable, schedule: Schedule) -> str | None:
    """When the last heartbeat was, and what it came to."""
    last = schedule_runs.last_begun(connection, schedule.id)
    if last is None:
        return None
    came_to = {"silent": "you had nothing to say", "ok": "what you said has arrived"}.get(last.state, last.state)
    return f"{at_in_words(last.started_at, schedule.timezone)}; {came_to}{f' ({last.note})' if last.note else ''}"


def start_by_hand(tx: Transaction, schedule: Schedule, now: datetime) -> str:
    """Begin a run now, besides the schedule's times; its id. Raises `Conflict` while one goes on, and `NotFound`."""
    if schedule.open_run is not None:
        raise Conflict(
            f"'{schedule.name}' runs already", hint=f"`dumbwaiter schedule log {schedule.name}` shows its session"
        )
    stamp = to_text(now)
    address = place.address_of(tx, schedule)
    if (refusal := _refusal(tx, schedule, stamp)) is not None:
        raise Conflict(refusal)
    if (trigger := triggers.of_schedule(tx, schedule.id)) is not None:
        texts = triggers.take(tx, trigger, MOST_EVENTS, now) or ["(nothing has happened: a person began this)"]
        schedule = replace(schedule, prompt=filled(schedule.prompt, texts))
    if schedule.is_heartbeat:
        schedule = replace(schedule, prompt=prompt("(read it in your workspace)", _last_beat(tx, schedule)))
    return _start(tx, schedule, address, stamp, stamp, BY_HAND, None)


def close_ended(tx: Transaction, now: datetime) -> bool:
    """Take down what became of runs."""
    stamp = to_text(now)
    answered = schedule_runs.answered(tx, AT_ONCE)
    for row in answered:
        with _one_run(tx, row, stamp):
            schedule = schedules.get(tx, row["schedule_id"])
            came_to = _outcome(tx, row)
            schedules.close_run(tx, schedule.id, row["id"])
            if came_to.state == RunState.DELIVERING:
                schedule_runs.mark_delivering(tx, row["id"], came_to.delivery or "")
            else:
                _finish(tx, schedule, row, came_to, stamp)
    sent = schedule_runs.sent(tx, AT_ONCE)
    for row in sent:
        with _one_run(tx, row, stamp):
            _finish(tx, schedules.get(tx, row["schedule_id"]), row, _outcome(tx, row), stamp)
    return AT_ONCE in (len(answered), len(sent))


@contextmanager
def _one_run(tx: Transaction, row: sqlite3.Row, stamp: str) -> Iterator[None]:
    """The boundary of one run that is over: one that the host fails over has failed, and holds up no other."""
    try:
        with tx.part("one_run"):
            yield
    except Exception as error:  # the boundary of one run
        if not is_of_a_row(error):  # all of it is done again
            raise
        log.exception("the end of a run cannot be handled", extra={"run": row["id"]})
        why = f"the host failed over its end: {type(error).__name__}"
        schedules.close_run(tx, row["schedule_id"], row["id"])
        schedule_runs.finish(tx, row["id"], RunState.FAILED, stamp, note=why)


def plan_anew(tx: Transaction, now: datetime) -> int:
    """Plan anew what was planned before the clock was set back; how many are due at another time now.

    What recurs goes on from the present time: it neither waits until the old time has come again, nor is a run that
    took place then taken for one of the times to come.
    """
    stamp, changed = to_text(now), 0
    for schedule in schedules.planned_after(tx, stamp):
        if schedule.planned_at is None or not was_set_back(from_text(schedule.planned_at), now):
            continue
        next_at = stored(first(recurrence_of(schedule), now))
        if next_at is None or (schedule.next_at is not None and next_at >= schedule.next_at):
            next_at = schedule.next_at
        schedules.plan(tx, schedule.id, next_at, stamp)
        if next_at != schedule.next_at and next_at is not None:
            changed += 1
            minutes = -(-(from_text(schedule.planned_at) - now).total_seconds() // 60)
            back, following = span(60 * minutes), at_in_words(next_at, schedule.timezone)
            note = f"the clock was set back by about {back}: the next time is {following}"
            _note(tx, schedule, next_at, stamp, RunState.MISSED, note)
    return changed


def skip_missed(tx: Transaction, now: datetime) -> None:
    """Everything was paused and goes on: what was due meanwhile is not made up for."""
    for schedule in schedules.overdue(tx, to_text(now)):
        next_at = stored(first(recurrence_of(schedule), now))
        schedules.plan(tx, schedule.id, next_at, to_text(now))


def _advance(tx: Transaction, schedule: Schedule, found: Plan, stamp: str) -> None:
    """Store the next due time, or that there is none, before the run begins."""
    runs = schedule.runs + (found.run is not None)
    next_at, why = stored(found.next_at), None
    if next_at is None:
        why = "its time has come" if schedule.kind == Kind.ONCE else "it has no further time"
    elif schedule.max_runs is not None and runs >= schedule.max_runs:
        why = f"it has run {schedule.max_runs:,} time{'' if schedule.max_runs == 1 else 's'}"
    elif schedule.ends_at is not None and next_at > schedule.ends_at:
        why = f"it ended at {at_in_words(schedule.ends_at, schedule.timezone)}"
    if why is not None:
        schedules.set_status(tx, schedule.id, "done", why)
    else:
        schedules.plan(tx, schedule.id, next_at, stamp)


def _begin(tx: Transaction, schedule: Schedule, found: Plan, now: datetime) -> None:
    assert found.run is not None
    due_at, stamp = to_text(found.run), to_text(now)
    note = None
    if found.missed:
        since = at_in_words(to_text(found.missed_from or found.run), schedule.timezone)
        note = f"{found.missed_in_words} since {since} passed without a run, and are not made up for"
    try:
        address = place.address_of(tx, schedule)
    except NotFound as error:
        _failed_at_once(tx, schedule, due_at, error.what, stamp)
        return
    if (refusal := _refusal(tx, schedule, stamp)) is not None:
        _note(tx, schedule, due_at, stamp, RunState.SKIPPED, refusal)
        if schedules.is_first_today(tx, schedule.id, stamp[:10]):
            text = f"The schedule '{schedule.name}' did not run: {refusal}"
            tell(tx, schedule, f"budget-{stamp[:10]}", text, stamp)
        return
    _start(tx, schedule, address, due_at, stamp, DUE, note)


def _refusal(connection: Queryable, schedule: Schedule, stamp: str) -> str | None:
    """Why no run may be paid for now: the budget of the agent group, or that of the schedule for today."""
    group = agent_groups.by_id(connection, schedule.agent_group_id)
    if (refusal := usage.refusal(connection, group, stamp)) is not None:
        return refusal
    if schedule.budget_tokens is None and schedule.budget_usd is None:
        return None
    tokens, usd = schedule_runs.used_on_day(connection, schedule.id, stamp[:10])
    if schedule.budget_tokens is not None and tokens >= schedule.budget_tokens:
        said = f"{tokens:,} of {schedule.budget_tokens:,} tokens"
    elif schedule.budget_usd is not None and usd >= schedule.budget_usd:
        said = f"{usd:.2f} of {schedule.budget_usd:g} US dollars"
    else:
        return None
    return f"The budget of '{schedule.name}' for today is used up: {said}. It begins anew at 00:00 UTC."


def _start(
    tx: Transaction,
    schedule: Schedule,
    address: Address,
    due_at: str,
    stamp: str,
    cause: str,
    note: str | None,
) -> str:
    """Begin a run: its row, its session, and its prompt in the ledger, as a message is accepted that a person wrote."""
    run_id = new_id(Prefix.SCHEDULE_RUN)
    session = _session(tx, schedule, address, run_id, stamp)
    content: dict[str, object] = {"text": schedule.prompt}
    if schedule.check_script is not None:
        content["check"] = schedule.check_script
    if schedule.urgent:
        content["urgent"] = True
    message, _ = ingest.accept(
        tx,
        {
            "message_id": new_id(Prefix.MESSAGE),
            "agent_group_id": schedule.agent_group_id,
            "session_id": session.id,
            "generation": session.generation,
            "channel_type": address.channel_type,
            "platform_id": address.platform_id,
            "thread_id": address.thread_id,
            # Due time and number: after a clock was set back, the same time may come again.
            "platform_message_id": f"schedule:{schedule.id}:{due_at}/{schedule.runs + 1}",
            "sender_id": None,
            "sender_name": f"schedule {schedule.name}",
            "kind": MessageInKind.TASK,
            "trigger": 1,
            "content": encode(content),
            "spool": None,
            "accepted_at": stamp,
        },
        in_background=session.kind == "schedule",
    )
    sessions.heard(tx, session.id, f"{schedule.name}: {schedule.prompt}"[:200])
    schedule_runs.insert(
        tx,
        id=run_id,
        schedule_id=schedule.id,
        due_at=due_at,
        now=stamp,
        state=RunState.RUNNING,
        cause=cause,
        session_id=session.id,
        message_id=message.message_id,
        note=note,
    )
    schedules.begin_run(tx, schedule.id, run_id)
    log.info("a scheduled run begins", extra={"schedule": schedule.name, "due": due_at, "session_id": session.id})
    return run_id


def _session(tx: Transaction, schedule: Schedule, address: Address, run_id: str, stamp: str) -> Session:
    """That of all heartbeats; for another run one of its own, or the chat's, where it was asked for and is served."""
    chat = messaging_groups.find(tx, address.channel_type, address.platform_id)
    if schedule.is_heartbeat:
        return routes.resolve(
            tx,
            agent_group_id=schedule.agent_group_id,
            route_key="heartbeat",
            messaging_group_id=None if chat is None else chat.id,
            thread_id=None,
            kind="heartbeat",
        )
    if schedule.session_mode == "chat" and chat is not None:
        wiring = messaging_groups.wiring_of(tx, chat.id, schedule.agent_group_id)
        if wiring is not None and not wiring.per_user:
            mode = wiring.session_mode
            session = routes.resolve(
                tx,
                agent_group_id=schedule.agent_group_id,
                route_key=route_key(mode, address, agent_group_id=schedule.agent_group_id),
                messaging_group_id=chat.id if mode != "agent-shared" else None,
                thread_id=address.thread_id if mode == "per-thread" else None,
            )
            if session.status == "active":
                return session
    return routes.resolve(
        tx,
        agent_group_id=schedule.agent_group_id,
        route_key=f"schedule/{run_id}",
        messaging_group_id=None if chat is None else chat.id,
        thread_id=None,
        kind="schedule",
    )


def _outcome(connection: Queryable, row: sqlite3.Row) -> RunOutcome:
    said = [
        Said(each["status"], each["error"], each["deliver_after"], each["chat"])
        for each in schedule_runs.said(connection, row["session_id"], row["message_id"])
    ]
    return outcome(row["outcome"], row["error"], said, row["stop_reason"])


def _finish(tx: Transaction, schedule: Schedule, row: sqlite3.Row, came_to: RunOutcome, stamp: str) -> None:
    session = sessions.lookup(tx, row["session_id"])
    is_own = session is not None and session.kind == "schedule"
    tokens, usd = schedule_runs.used(tx, row["session_id"], row["turn_id"], whole=is_own)
    schedule_runs.finish(
        tx, row["id"], came_to.state, stamp, note=came_to.note, delivery=came_to.delivery, tokens=tokens, cost_usd=usd
    )
    if is_own and session is not None and session.status == "active":
        sessions.end(tx, session.id, EndReason.DONE)  # its agent is stopped, and its slot is free
    tx.add(ingest.SessionHasNews(row["session_id"]))
    _count(tx, schedule, came_to, row["id"], stamp)
    ids = {"schedule": schedule.name, "session_id": row["session_id"], "outcome": came_to.state, "reason": came_to.note}
    log.info("a scheduled run ended", extra={key: value for key, value in ids.items() if value is not None})


def _count(tx: Transaction, schedule: Schedule, came_to: RunOutcome, run_id: str, stamp: str) -> None:
    """Count failures in a row; at the limit the schedule is paused, and its owner is told once."""
    if came_to.state == RunState.CANCELLED:
        return
    failures = schedule.failures + 1 if came_to.has_failed else 0
    schedules.count_failures(tx, schedule.id, failures)
    if failures < schedule.max_failures or schedule.status not in ("active", "done"):
        return
    times = "time" if failures == 1 else f"{failures} times in a row"
    why = f"it has failed {times}: {came_to.note or 'unknown'}"
    if schedule.status == "active":
        schedules.set_status(tx, schedule.id, "paused", why)
        after = f"`dumbwaiter schedule resume {schedule.name}` (or /schedule resume {schedule.name}) lets it run again."
        tell(
            tx, schedule, f"paused-{run_id}", f"The schedule '{schedule.name}' is paused, because {why}. {after}", stamp
        )
    else:
        tell(tx, schedule, f"failed-{run_id}", f"The schedule '{schedule.name}' failed: {why}.", stamp)


def _failed_at_once(tx: Transaction, schedule: Schedule, due_at: str, why: str, stamp: str) -> None:
    run_id = _note(tx, schedule, due_at, stamp, RunState.FAILED, why)
    schedule = schedules.get(tx, schedule.id)
    _count(tx, schedule, RunOutcome(RunState.FAILED, why), run_id, stamp)


def _note_missed(tx: Transaction, schedule: Schedule, found: Plan, stamp: str) -> None:
    since = at_in_words(to_text(found.missed_from), schedule.timezone) if found.missed_from is not None else "then"
    note = (
        f"{found.missed_in_words} since {since} passed without a run; by its rule '{schedule.missed}' none is made up"
    )
    _note(tx, schedule, to_text(found.missed_from) if found.missed_from else stamp, stamp, RunState.MISSED, note)


def _note(tx: Transaction, schedule: Schedule, due_at: str, stamp: str, state: RunState, note: str) -> str:
    """A row for something that did not take place; its id."""
    run_id = new_id(Prefix.SCHEDULE_RUN)
    schedule_runs.insert(tx, id=run_id, schedule_id=schedule.id, due_at=due_at, now=stamp, state=state, note=note)
    log.info("a scheduled run did not take place", extra={"schedule": schedule.name, "reason": note})
    return run_id
