"""Asking people with a role, and taking their one answer.

An approval is open for 24 hours, and there is one for each kind and subject. Its card goes to every decider who can be
reached. The roles of a person who answers are looked up at that moment: a card that was passed on, or that a whole
group can see, is no right to decide. The first answer counts, in one transaction with what follows from it; the other
cards then say by whom it was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from host.access import cards, codes
from host.access.agent_acts import ACTS, CALL
from host.access.agent_schedule import AGENT_SCHEDULE
from host.access.cards import ApprovalChoice
from host.access.kinds import ApprovalDecision, ApprovalKind
from host.access.pairing import PAIRING
from host.access.standing import TERMINAL, Standing
from host.access.unknown_chat import UNKNOWN_CHAT
from host.central import approvals as table
from host.central import audit, host_messages, users
from host.central.agent_groups import AgentGroupChanged
from host.central.approvals import Approval, ApprovalState
from host.central.audit import Actor
from host.central.database import Queryable, Transaction
from host.central.messaging_groups import TERMINAL_CHANNEL
from shared_schema.clock import from_text, to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, InvalidValue, NotFound
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address

_OF_AGENTS = (AGENT_SCHEDULE, CALL, *(act.kind for act in ACTS.values()))
KINDS: Mapping[str, ApprovalKind] = {kind.name: kind for kind in (PAIRING, UNKNOWN_CHAT, *_OF_AGENTS)}
"""What can be approved. A further kind is one more entry."""

VALID = timedelta(hours=24)
MOST_WAITING = 5
"""Events that wait for one decision; further ones are counted."""
NOT_YOURS = "Only the owner, or an admin of what it is about, can decide this."


@dataclass(frozen=True, slots=True)
class OpenedApproval:
    """An approval that is open now; `is_new`: it was asked for just now. `is_kept`: what came with it waits for it."""

    approval: Approval
    is_new: bool
    is_kept: bool


@dataclass(frozen=True, slots=True)
class ClosedApproval:
    """How an approval ended, as a sentence."""

    approval: Approval
    sentence: str


def ask(
    tx: Transaction,
    kind: ApprovalKind,
    subject: str,
    arguments: Mapping[str, Any],
    *,
    agent_groups: Sequence[str] | None = None,
    role: str = "admin",
    waiting: Mapping[str, Any] | None = None,
    place: Address | None = None,
) -> OpenedApproval | None:
    """Ask the deciders; when that was done already, what is `waiting` waits with it. Returns None: too many are open.

    `agent_groups`: the admins of these may decide, too; `place` is a chat that is shown the
    card as well. Raises `InvalidValue` for arguments that a card cannot show.
    """
    found = table.open_for(tx, kind.name, subject)
    if found is not None and found.expires_at > tx.now:
        return _again(tx, found, waiting)
    if found is not None:
        expire(tx, found)
    if table.open_count(tx) >= table.MOST_OPEN:
        return None
    shown = _shown(kind, arguments)
    if sum(len(str(value)) for value in shown.values()) > cards.MOST_CHARACTERS:
        raise InvalidValue(f"what is to be approved has more than {cards.MOST_CHARACTERS:,} characters")
    approval_id, expires_at = new_id(Prefix.APPROVAL), to_text(from_text(tx.now) + VALID)
    table.insert(
        tx,
        id=approval_id,
        code=_fresh_code(tx),
        kind=kind.name,
        subject=subject,
        arguments=arguments,
        role=role,
        agent_groups=agent_groups,
        waiting=[] if waiting is None else [waiting],
        created_at=tx.now,
        expires_at=expires_at,
    )
    approval = table.get(tx, approval_id)
    assert approval is not None
    _send_cards(tx, kind, approval, place)
    return OpenedApproval(approval, is_new=True, is_kept=waiting is not None)


def may_decide(standing: Standing, approval: Approval, agent_group_id: str | None = None) -> bool:
    """Whether a person may decide an approval, or choose this agent group in it. Pure."""
    if approval.role == "owner":
        return standing.is_owner
    if agent_group_id is not None:
        return standing.administers(agent_group_id)
    of = approval.of_agent_groups
    return standing.administers(None) or any(standing.administers(each) for each in of or ())


def decide(tx: Transaction, code: str, decider: Standing, where_from: str, answer: str | None) -> ClosedApproval:
    """Take an answer: None or a choice (its number or value) for yes, `no`.

    Raises `Conflict` for who may not decide, and for what is decided already; `NotFound`; `InvalidValue` for an answer
    that is none.
    """
    if not decider.is_decider:
        raise Conflict(NOT_YOURS)
    approval = table.by_code(tx, codes.normalised(code))
    if approval is None:
        raise NotFound(f"there is no approval {code[:20]}", hint="`dumbwaiter approval list` shows those that wait")
    if not may_decide(decider, approval):
        raise Conflict(NOT_YOURS)
    if approval.state == ApprovalState.PENDING and approval.expires_at <= tx.now:
        expire(tx, approval)
        approval = table.get(tx, approval.id) or approval
    if approval.state != ApprovalState.PENDING:
        raise Conflict(_is_over(approval))
    kind = KINDS[approval.kind]
    with audit.acting(Actor(decider.user, where_from)):
        if answer == cards.NO:
            done = _close(tx, approval, ApprovalState.DENIED, decider, where_from, None, None)
            _tell_waiting(tx, approval, kind.denied)
            return ClosedApproval(done, ended(done))
        choice = _chosen(kind.choices(tx, approval.about), answer)
        if choice.agent_group_id is not None and not may_decide(decider, approval, choice.agent_group_id):
            raise Conflict(f"You are no admin of {choice.label}. {NOT_YOURS}")
        came_of_it = kind.approved(tx, ApprovalDecision(approval, choice, decider))
        done = _close(tx, approval, ApprovalState.APPROVED, decider, where_from, choice.value, came_of_it.sentence)
        for agent_group_id in came_of_it.agent_groups:
            tx.add(AgentGroupChanged(agent_group_id))
        return ClosedApproval(done, f"{ended(done)} {came_of_it.sentence}")


def close_approved(tx: Transaction, approval: Approval, by: Standing, where_from: str, choice: str) -> None:
    """Note that what an approval asks for was done another way: what waits for it is answered."""
    with audit.acting(Actor(by.user, where_from)):
        _close(tx, approval, ApprovalState.APPROVED, by, where_from, choice, None)


def close_moot(tx: Transaction, approval: Approval, why: str, where_from: str) -> None:
    """Note that something else has brought about what an approval asks for: what waits for it is answered."""
    with audit.acting(Actor("host", where_from)):
        _close(tx, approval, ApprovalState.APPROVED, Standing(why), where_from, None, None)


def expire_due(tx: Transaction) -> int:
    """Close the approvals that were not decided in time, and say so. Returns how many."""
    due = table.expired(tx, tx.now)
    for approval in due:
        expire(tx, approval)
    return len(due)


def expire(tx: Transaction, approval: Approval) -> None:
    """Close one approval because its time is over, and tell who waits."""
    kind = KINDS.get(approval.kind)
    _close(tx, approval, ApprovalState.EXPIRED, None, None, None, None)
    _tell_waiting(tx, approval, None if kind is None else kind.expired)


def ended(approval: Approval) -> str:
    """How an approval ended."""
    match approval.state:
        case ApprovalState.APPROVED:
            return f"Approved by {approval.decided_by}."
        case ApprovalState.DENIED:
            return f"Denied by {approval.decided_by}."
        case ApprovalState.EXPIRED:
            return "It has expired: there was no decision within 24 hours."
        case _:
            return "It waits for a decision."


def card_text(connection: Queryable, approval: Approval) -> str:
    """What a decider is shown."""
    kind = KINDS[approval.kind]
    choices = kind.choices(connection, approval.about)
    return cards.text(kind.question, _shown(kind, approval.about), choices, approval.code, approval.expires_at)


def card_about(approval: Approval) -> str:
    """The same without the ways to answer, for who is shown buttons."""
    kind = KINDS[approval.kind]
    return cards.about(kind.question, _shown(kind, approval.about))


def in_words(approval: Approval) -> str:
    """What an approval is about, in a few words: whose it is and what, without the reason; or the chat it came from."""
    about = _about(approval)
    if "agent" not in about:
        return approval.subject
    return f"{about['agent']}: {', '.join(str(said) for name, said in about.items() if name not in ('agent', 'why'))}"


def _about(approval: Approval) -> Mapping[str, Any]:
    kind = KINDS.get(approval.kind)
    return approval.about if kind is None else _shown(kind, approval.about)


def _shown(kind: ApprovalKind, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name not in kind.hidden}


def _again(tx: Transaction, approval: Approval, waiting: Mapping[str, Any] | None) -> OpenedApproval:
    """The same is asked once more: it waits with the rest, once however often the platform sends it."""
    events = approval.events
    known = waiting is not None and any(
        each.get("platform_message_id") == waiting.get("platform_message_id") for each in events
    )
    if known:
        return OpenedApproval(approval, is_new=False, is_kept=True)
    fits = waiting is not None and len(events) < MOST_WAITING
    table.repeated(tx, approval, [*events, waiting] if waiting is not None and fits else events)
    return OpenedApproval(approval, is_new=False, is_kept=fits)


def _fresh_code(connection: Queryable) -> str:
    while table.by_code(connection, code := codes.new_approval_code()) is not None:
        pass
    return code


def _send_cards(tx: Transaction, kind: ApprovalKind, approval: Approval, place: Address | None) -> None:
    """To every decider, wherever they are known; to the terminal when there is no other place."""
    choices = kind.choices(tx, approval.about)
    text = cards.text(kind.question, _shown(kind, approval.about), choices, approval.code, approval.expires_at)
    buttons = cards.buttons(choices, approval.code)
    deciders = [
        user for user in users.deciders(tx, approval.role, approval.of_agent_groups) if user.channel != TERMINAL_CHANNEL
    ]
    for user in deciders:
        host_messages.say(
            tx,
            f"card/{approval.id}/{user.id}",
            user.channel,
            user.direct_chat,
            text,
            to_user=user.id,
            buttons=buttons,
            approval_id=approval.id,
        )
    is_shown = place is not None and any(
        (user.channel, user.direct_chat) == (place.channel_type, place.platform_id) for user in deciders
    )
    if place is not None and not is_shown:
        host_messages.say(
            tx,
            f"card/{approval.id}/{place.channel_type}:{place.platform_id}",
            place.channel_type,
            place.platform_id,
            text,
            thread_id=place.thread_id,
            buttons=buttons,
            approval_id=approval.id,
        )
    if not deciders and (place is None or place.channel_type != TERMINAL_CHANNEL):
        channel, _, platform_id = TERMINAL.partition(":")
        host_messages.say(
            tx, f"card/{approval.id}/{TERMINAL}", channel, platform_id, text, buttons=buttons, approval_id=approval.id
        )


def _close(
    tx: Transaction,
    approval: Approval,
    state: ApprovalState,
    decider: Standing | None,
    where_from: str | None,
    choice: str | None,
    outcome: str | None,
) -> Approval:
    """Give it its one decision, and say so on the cards. Raises `Conflict` when it has one."""
    by = None if decider is None else decider.user
    if not table.decide(tx, approval, state, by=by, where_from=where_from, choice=choice, outcome=outcome):
        raise Conflict(_is_over(table.get(tx, approval.id) or approval))
    done = table.get(tx, approval.id)
    assert done is not None
    kind = KINDS.get(approval.kind)
    if kind is not None and kind.closed is not None:
        kind.closed(tx, done)
    audit.record(
        tx,
        f"approval.{state}",
        in_words(approval),
        after={
            "kind": approval.kind,
            "code": approval.code,
            **_about(approval),
            "choice": choice,
            "outcome": outcome,
        },
    )
    host_messages.suppress_cards(tx, approval.id)
    sentence = ended(done) if outcome is None else f"{ended(done)} {outcome}"
    for card in host_messages.cards(tx, approval.id):
        if card.status not in ("delivered", "uncertain", "sending"):
            continue
        host_messages.say(
            tx,
            f"{card.key}/{state}",
            card.channel_type,
            card.platform_id,
            cards.decided(card.text, sentence),
            to_user=card.to_user,
            approval_id=approval.id,
            edits=card.key,
            short=f"{approval.code}: {sentence}",
        )
    return done


def _tell_waiting(tx: Transaction, approval: Approval, sentence: str | None) -> None:
    """Tell who waits in vain, where they wait."""
    if sentence is None or not approval.events:
        return
    event = approval.events[0]
    host_messages.say(
        tx,
        f"in-vain/{approval.id}",
        event["channel_type"],
        event["platform_id"],
        sentence,
        thread_id=event.get("thread_id"),
    )


def _is_over(approval: Approval) -> str:
    """Why an answer changes nothing any more."""
    decided = approval.state in (ApprovalState.APPROVED, ApprovalState.DENIED)
    return f"{approval.code} is decided already: {ended(approval)}" if decided else ended(approval)


def _chosen(choices: Sequence[ApprovalChoice], answer: str | None) -> ApprovalChoice:
    if not choices:
        raise Conflict("There is nothing left to choose from.")
    if answer is None or not answer.strip():
        if len(choices) == 1:
            return choices[0]
        raise InvalidValue(
            "Say which one: " + ", ".join(f"{number} for {each.label}" for number, each in enumerate(choices, 1)) + "."
        )
    wanted = answer.strip()
    for number, choice in enumerate(choices, 1):
        if wanted in (str(number), choice.value):
            return choice
    raise InvalidValue(f"'{wanted[:40]}' is none of {', '.join(each.value for each in choices)}.")
