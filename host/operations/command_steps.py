"""What each command does. All that decides something is in the transaction that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from host.access.answers import HOST_WIDE
from host.central import (
    audit,
    exchanges,
    ingest,
    routes,
    session_list,
    session_visibility,
    sessions,
    titles,
    usage,
)
from host.central import title as title_form
from host.central.database import Queryable, Transaction
from host.central.sessions import Session
from host.operations import command_admin as admin
from host.operations import command_answers as answers
from host.operations import command_schedules as schedules
from host.operations import session_stop, session_transitions
from host.operations.command_answers import ConversationFacts, Listed, QueueFacts, Tokens, UsedBudget
from host.operations.command_order import Order
from host.routing.commands import help_text
from host.sessions.transitions import Transition, Undone
from shared_schema.clock import to_text
from shared_schema.errors import Conflict, InvalidValue
from shared_schema.providers import SUMMARIZERS
from shared_schema.rows import AgentPhase
from shared_schema.text import folded

Step = Callable[[Order], Awaitable[None]]

_LISTED = 10
_LONGEST_COUNT = 4


async def carry_out(order: Order) -> None:
    """Do what a command says, and answer. Raises `DumbwaiterError` when it cannot be done; its `what` is the answer."""
    await STEPS[order.command.name](order)


async def _new(order: Order) -> None:
    def answer(connection: Queryable, done: Transition) -> str:
        is_new = done.before.status == "active" or done.after.created_at >= order.now
        return answers.begun(done.cancelled) if is_new else answers.BEGUN_ALREADY

    await session_transitions.begin_anew(order.services, order.session, order.answering(answer))


async def _title(order: Order) -> None:
    def run(tx: Transaction) -> None:
        present = order.present(tx)
        if order.command.argument:
            title = titles.set_manual(tx, present, order.command.argument, lineage=True)
            is_cut = title_form.is_cut(order.command.argument)
            before = {"title": present.title}
            audit.record(tx, "session.title", present.id, before=before, after={"title": title})
            order.finish(tx, answers.title_set(title, cut=is_cut))
        else:
            order.finish(tx, answers.title_is(present.title))

    await order.write(run)


async def _sessions(order: Order) -> None:
    def run(tx: Transaction) -> None:
        present = order.present(tx)
        found = session_visibility.newest(tx, present, _LISTED)
        session_list.keep_list(tx, present.route_id, [each.id for each in found])
        entries = [
            Listed(
                name=each.name,
                last_active=each.last_active,
                unread=each.unread_since is not None and each.id != present.id,
                present=each.id == present.id,
                archived=each.status == "archived",
            )
            for each in found
        ]
        order.finish(tx, answers.listed(entries, order.zone(tx)))

    await order.write(run)


async def _resume(order: Order) -> None:
    def choose(connection: Queryable) -> tuple[Session, routes.Route]:
        present = _somewhere(order, connection)
        if order.command.argument:
            found = session_visibility.find(connection, present, order.command.argument)
        elif present.status == "archived":
            found = present
        else:
            found = session_visibility.last_ended(connection, present)
        route = routes.route_of(connection, order.session)
        if found.id == route.active_session_id and found.status == "active":
            raise Conflict(answers.PRESENT_ALREADY)
        return found, route

    def answer(connection: Queryable, done: Transition) -> str:
        name = session_visibility.name_of(connection, done.after)
        return answers.taken_up(name, found.last_active, done.cancelled, order.zone(connection))

    found, route = await order.services.central.read(choose)
    await session_transitions.take_up(order.services, found, route, order.answering(answer))


async def _undo(order: Order) -> None:
    asked, is_sure = _count(order.command.argument)
    if asked > answers.MOST_UNASKED and not is_sure:
        await order.write(lambda c: order.finish(c, order.why_not(c) or answers.take_back_so_many(asked)))
        return
    present = await order.services.central.read(order.open_present)

    def answer(connection: Queryable, done: Undone) -> str:
        return answers.taken_back(_texts(done.exchanges.messages), done.exchanges.count, asked)

    await session_transitions.take_back(order.services, present, asked, order.answering(answer))


async def _retry(order: Order) -> None:
    present = await order.services.central.read(order.open_present)

    def answer(connection: Queryable, done: Undone) -> str:
        return answers.asked_again(_texts(done.exchanges.messages))

    await session_transitions.ask_again(order.services, present, order.answering(answer))


async def _branch(order: Order) -> None:
    present = await order.services.central.read(order.present)
    await session_transitions.go_on_in_copy(
        order.services, present, order.answering(lambda connection, done: answers.BRANCHED)
    )


async def _compress(order: Order) -> None:
    def check(connection: Queryable) -> Session:
        present = order.open_present(connection)
        if order.agent_group(connection).provider not in SUMMARIZERS:
            raise Conflict(answers.NO_SUMMARIES)
        if not exchanges.has_one(connection, present.id):
            raise Conflict(answers.NOTHING_SAID)
        return present

    present = await order.services.central.read(check)
    await session_transitions.ask_for_summary(
        order.services, present, order.answering(lambda connection, done: answers.SUMMING_UP)
    )


async def _stop(order: Order) -> None:
    def look(connection: Queryable) -> tuple[Session, list[str]]:
        present = order.present(connection)
        rows = [ingest.get(connection, message_id) for message_id in ingest.unanswered(connection, present.id)]
        return present, _texts([row for row in rows if row is not None and row.kind == "chat"])

    def answer(connection: Queryable, cancelled: int) -> str:
        return answers.stopped(texts, cancelled)

    present, texts = await order.services.central.read(look)
    await session_stop.interrupt(order.services, present, order.answering(answer))


async def _status(order: Order) -> None:
    def run(tx: Transaction) -> None:
        present, group = order.present(tx), order.agent_group(tx)
        talk = ConversationFacts(
            present.id, present.title, present.status == "archived", group.name, group.provider, group.model
        )
        order.finish(tx, answers.state(talk, _work(order, tx, present), order.zone(tx)))

    await order.write(run)


async def _usage(order: Order) -> None:
    used = await order.services.central.read(lambda c: usage.of_session(c, order.present(c).id))
    into = used.input_tokens + used.cache_read_tokens + used.cache_write_tokens

    def run(tx: Transaction) -> None:
        group = order.agent_group(tx)
        period = usage.state(tx, group, tx.now)
        allowance = UsedBudget(
            group.name,
            group.budget_period,
            period.used_tokens,
            period.used_usd,
            group.budget_tokens,
            group.budget_usd,
        )
        order.finish(tx, answers.usage(Tokens(into, used.output_tokens, used.cost_usd), allowance))

    await order.write(run)


async def _help(order: Order) -> None:
    await order.write(lambda connection: order.finish(connection, help_text()))


STEPS: Mapping[str, Step] = {
    "new": _new,
    "title": _title,
    "sessions": _sessions,
    "resume": _resume,
    "undo": _undo,
    "retry": _retry,
    "branch": _branch,
    "compress": _compress,
    "stop": _stop,
    "status": _status,
    "usage": _usage,
    "schedule": schedules.schedule,
    "pause": schedules.pause,
    "model": admin.model,
    "budget": admin.budget,
    "help": _help,
    **dict.fromkeys(HOST_WIDE, admin.about_the_host),
}
"""What carries out a command, by its word (host/routing/commands.py)."""


def _somewhere(order: Order, connection: Queryable) -> Session:
    """The present conversation; where there is none, the one the command was accepted for."""
    active = routes.route_of(connection, order.session).active_session_id
    return sessions.get(connection, active or order.session.id)


def _work(order: Order, connection: Queryable, present: Session) -> QueueFacts:
    """What goes on in a conversation, as far as the host has seen."""
    services = order.services
    agent = services.supervisor.agents.get(present.id)
    tries = max((m.tries for m in ingest.open_messages(connection, present.id) if m.trigger), default=0)
    seconds, since, doing = 0.0, None, None
    if agent is not None and agent.busy_since is not None:
        seconds = max(0.0, services.clock.monotonic() - agent.busy_since)
        since = to_text(services.clock.now() - timedelta(seconds=seconds))
        doing = None if agent.doing in (None, *AgentPhase) else agent.doing
    return QueueFacts(
        waiting=session_list.shown(connection, present.id)["pending"],
        attempt=tries + 1,
        since=since,
        seconds=seconds,
        doing=doing,
        queued=present.id in services.supervisor.slots.waiting,
    )


def _texts(messages: list[ingest.AcceptedMessage] | tuple[ingest.AcceptedMessage, ...]) -> list[str]:
    """What was asked in messages, without what was only heard."""
    return [ingest.text_of(message) for message in messages if message.trigger]


def _count(argument: str) -> tuple[int, bool]:
    """How many exchanges `/undo` is to take back, and whether that was confirmed. Raises `InvalidValue`."""
    if not argument:
        return 1, False
    number, *more = argument.split()
    if not (number.isascii() and number.isdecimal() and len(number) <= _LONGEST_COUNT and int(number)):
        raise InvalidValue(answers.UNDO_HOW)
    if more and [folded(word, 10) for word in more[:2]] != ["yes"]:
        raise InvalidValue(answers.UNDO_HOW)
    return int(number), bool(more)
