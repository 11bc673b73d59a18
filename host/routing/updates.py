"""What people do in a chat beside writing: they change and delete messages, press buttons, and add the bot.

Each is one transaction, and may come twice. A message that waits is replaced or cancelled. A turn that is at work on
one is told what it says now, as it hears what people write meanwhile; where its provider cannot take that, and once it
is answered, it is context for the next turn. The turn that takes it at this very moment ends by itself when its message
is cancelled, and what else it was over is taken again, as long as the turn has said and done nothing yet.
"""

from __future__ import annotations

import hashlib
from typing import cast

from host.access import answers, gate
from host.access.admission import UNKNOWN, AdmissionVerdict
from host.access.gate import IncomingMessage
from host.access.standing import standing_of
from host.central import (
    approvals,
    deliveries,
    host_messages,
    ingest,
    messaging_groups,
    refusals,
    sessions,
    users,
)
from host.central.database import Queryable, Transaction
from host.central.messaging_groups import Engage, MessagingGroup
from host.routing.acceptance import HEARD_FOR, MOST_HEARD, RoutingOutcome, Rules
from host.routing.event import (
    ChatGone,
    Clicked,
    Deleted,
    Edited,
    Event,
    Joined,
    Receipt,
    require_identifiers,
)
from host.routing.text import preview, truncate
from host.routing.waiting import LONGEST
from shared_schema.clock import from_text, to_text
from shared_schema.errors import FileDamaged
from shared_schema.ids import Prefix, is_id, new_id
from shared_schema.rows import Address, MessageInKind, MessageInStatus, decode, encode
from shared_schema.text import without_lone_surrogates

ANSWER = "answer:"
"""A button under a question: `answer:<message id>:<number of the option>`."""

_LONGEST_VALUE = 64
_NO_BUTTON = "the button is of no message here"
_NOT_HERE = "there is no message here that this could change"


def edited(tx: Transaction, event: Edited, rules: Rules) -> RoutingOutcome:
    """A person has changed a message. Raises `InvalidValue` for what identifies nothing, as the others here do."""
    require_identifiers(event.address, ("message id", event.platform_message_id), ("sender", event.sender_id))
    address, outcome = event.address, RoutingOutcome(Receipt((), _NOT_HERE))
    group = messaging_groups.find(tx, address.channel_type, address.platform_id)
    text = truncate(without_lone_surrogates(event.text), rules.max_text)
    rows = ingest.of_platform_message(tx, address.channel_type, address.platform_id, event.platform_message_id)
    if not rows or group is None:
        _change_waiting(tx, address, event.platform_message_id, text)
        return outcome
    sender = event.sender_id or rows[0].sender_id
    allowed = heard_by(tx, group, address, event.platform_message_id, sender, event.text)
    for row in rows:
        if row.agent_group_id not in allowed:
            refusals.drop(tx, address.channel_type, address.platform_id, event.sender_id, UNKNOWN)
        elif row.kind == MessageInKind.CHAT and ingest.text_of(row) != text:
            _change(tx, row, text, outcome)
    if outcome.heard:
        outcome.receipt = Receipt(())
    return outcome


def deleted(tx: Transaction, event: Deleted) -> RoutingOutcome:
    """A person has deleted a message: where it waits, it is cancelled, and an agent that has taken it is told."""
    require_identifiers(event.address, ("message id", event.platform_message_id))
    address, outcome = event.address, RoutingOutcome(Receipt((), _NOT_HERE))
    group = messaging_groups.find(tx, address.channel_type, address.platform_id)
    for row in ingest.of_platform_message(tx, address.channel_type, address.platform_id, event.platform_message_id):
        if row.kind != MessageInKind.CHAT or row.session_id is None:
            continue
        if row.turn_id is None:
            if ingest.cancel(tx, row.message_id):
                outcome.heard.append(row.session_id)
        elif group is not None and row.agent_group_id in heard_by(
            tx, group, address, event.platform_message_id, row.sender_id, ""
        ):
            # Without its words: who takes something back does not want it said again.
            _tell(
                tx, row, "deleted", {"text": "deleted this message", "reply_to": {"message": row.message_id}}, outcome
            )
    if outcome.heard:
        outcome.receipt = Receipt(())
    _change_waiting(tx, address, event.platform_message_id, None)
    return outcome


def clicked(tx: Transaction, event: Clicked) -> tuple[RoutingOutcome, Event | None]:
    """A person has pressed a button: an approval is decided, or (the event) a question is answered."""
    require_identifiers(event.address, ("sender", event.sender_id), ("click id", event.click_id))
    if not event.value.isascii() or len(event.value) > _LONGEST_VALUE:  # ours are neither
        return RoutingOutcome(Receipt((), _NO_BUTTON)), None
    outcome, address = RoutingOutcome(Receipt(())), event.address
    chat = f"{address.channel_type}:{address.platform_id}"
    who = standing_of(tx, users.user_id(address.channel_type, event.sender_id))
    answer = answers.click(tx, event.value, who, chat)
    if answer is None:
        said = _option(tx, event)
        if said is None:
            outcome.receipt = Receipt((), _NO_BUTTON)
        return outcome, said
    if not answer.is_done:  # else the card itself says how it ended
        outcome.receipt = Receipt((), answer.text)
        host_messages.say(
            tx,
            f"click/{chat}/{event.click_id}",
            address.channel_type,
            address.platform_id,
            answer.text,
            thread_id=address.thread_id,
        )
    return outcome, None


def joined(tx: Transaction, event: Joined) -> RoutingOutcome:
    """The bot was added to a group, which is told once a day what it hears there."""
    require_identifiers(event.address, ("sender", event.sender_id))
    outcome, address = RoutingOutcome(Receipt(())), event.address
    if not event.is_group:
        return outcome
    chat = f"{address.channel_type}:{address.platform_id}"
    group = messaging_groups.find(tx, address.channel_type, address.platform_id)
    wirings = [] if group is None else messaging_groups.wirings_of(tx, group.id)
    if not wirings:
        text = (
            "I hear what mentions me here, and no agent answers yet: mention me, and my owner is asked; or type "
            f"`dumbwaiter wire {chat} AGENT --engage mention-sticky` on my host's machine."
        )
    elif all(wiring.rule in (Engage.MENTION, Engage.MENTION_STICKY) for wiring in wirings):
        text = f"I hear what mentions me here. `dumbwaiter wire {chat} AGENT --engage all` makes me hear everything."
    else:
        text = (
            f"I hear what is written here. `dumbwaiter wire {chat} AGENT --engage mention` makes me wait for my name."
        )
    key = f"joined/{chat}/{tx.now[:10]}"
    host_messages.say(tx, key, address.channel_type, address.platform_id, text, thread_id=address.thread_id)
    return outcome


def heard_by(
    tx: Transaction, group: MessagingGroup, address: Address, message_id: str, sender: str | None, text: str
) -> frozenset[str]:
    """The agent groups that listen to a person in a chat, by its rules as they are now."""
    arrival = IncomingMessage(
        address, message_id, sender, None, text, False, bool(group.is_group), None,
        address.channel_type == messaging_groups.TERMINAL_CHANNEL, dict,
    )  # fmt: skip
    admission, _ = gate.admit(tx, arrival, group, messaging_groups.wirings_of(tx, group.id))
    if admission.verdict != AdmissionVerdict.ADMITTED:
        return frozenset()
    return frozenset(wiring.agent_group_id for wiring in admission.wirings)


def _change(tx: Transaction, row: ingest.AcceptedMessage, text: str, outcome: RoutingOutcome) -> None:
    """Bring the new text to one agent group that took the message."""
    session = None if row.session_id is None else sessions.lookup(tx, row.session_id)
    if session is None or session.status != "active":
        return
    try:
        content = decode(row.content)
    except FileDamaged:
        return
    is_waiting = row.status == MessageInStatus.PENDING and row.turn_id is None
    if is_waiting and ingest.supersede(tx, row.message_id):
        # Never changed in place: it may be in the session's file, or on its way there at this moment.
        _put_in_place(tx, row, content | {"text": text}, session)
        outcome.heard.append(session.id)
        return
    was = {"message": row.message_id, "text": preview(str(content.get("text", "")))}
    mark = hashlib.sha256(text.encode()).hexdigest()[:16]
    _tell(tx, row, f"edited/{mark}", {"text": f"edited: {text}", "reply_to": was}, outcome)


def _tell(
    tx: Transaction, row: ingest.AcceptedMessage, what: str, told: dict[str, object], outcome: RoutingOutcome
) -> None:
    """Tell an agent, with its next turn, what became of a message that it has taken; `what` names that, once."""
    session = None if row.session_id is None else sessions.lookup(tx, row.session_id)
    if session is None or session.status != "active" or row.generation != session.generation:
        return
    address = Address(row.channel_type, row.platform_id, row.thread_id)
    key = f"{row.platform_message_id}/{what}"
    # An agent that is at work on the message takes the change into its turn, where its provider can; the others find it
    # with their next turn.
    told = told | {"change": what.partition("/")[0]}
    put(tx, session, address, key, told, sender_id=row.sender_id, sender_name=row.sender_name)
    since = to_text(from_text(tx.now) - HEARD_FOR)
    ingest.cancel_old_heard(tx, session.id, MOST_HEARD, since)
    outcome.heard.append(session.id)


def put(
    tx: Transaction,
    session: sessions.Session,
    address: Address,
    platform_message_id: str,
    content: dict[str, object],
    *,
    sender_id: str | None,
    sender_name: str | None,
    message_id: str | None = None,
    trigger: int = 0,
    spool: str | None = None,
    traceparent: str | None = None,
) -> None:
    """Put a message into a session: what a person did, as context that wakes no agent unless it is a `trigger`."""
    ingest.accept(
        tx,
        {
            "message_id": message_id or new_id(Prefix.MESSAGE),
            "agent_group_id": session.agent_group_id,
            "session_id": session.id,
            "generation": session.generation,
            "channel_type": address.channel_type,
            "platform_id": address.platform_id,
            "thread_id": address.thread_id,
            "platform_message_id": platform_message_id,
            "sender_id": sender_id,
            "sender_name": sender_name,
            "kind": MessageInKind.CHAT,
            "trigger": trigger,
            "content": encode(content),
            "spool": spool,
            "accepted_at": tx.now,
            "traceparent": traceparent,
        },
    )


def _put_in_place(
    tx: Transaction, row: ingest.AcceptedMessage, content: dict[str, object], session: sessions.Session
) -> None:
    """Put a message where another one was, with the files of that one if they still wait."""
    message_id, spool = new_id(Prefix.MESSAGE), None
    if row.spool is not None and row.state == "accepted":
        spool = row.spool  # its files go where the new message looks for them
        names = [file["name"] for file in cast("list[dict[str, str]]", content["files"])]
        content["files"] = [{"name": name, "path": f"inbox/{message_id}/{name}"} for name in names]
    put(
        tx,
        session,
        Address(row.channel_type, row.platform_id, row.thread_id),
        row.platform_message_id,
        content,
        sender_id=row.sender_id,
        sender_name=row.sender_name,
        traceparent=row.traceparent,
        message_id=message_id,
        trigger=row.trigger,
        spool=spool,
    )


def _change_waiting(tx: Transaction, address: Address, message_id: str, text: str | None) -> None:
    """Change what waits for a decision; None: it is deleted."""
    for approval in approvals.waiting_for(tx, address.channel_type, address.platform_id, message_id):
        events = [
            event if event["platform_message_id"] != message_id else event | {"text": truncate(text or "", LONGEST)}
            for event in approval.events
            if text is not None or event["platform_message_id"] != message_id
        ]
        approvals.set_waiting(tx, approval, events)


def _option(connection: Queryable, event: Clicked) -> Event | None:
    """What a person says who presses a button under a question: its option, in reply to it."""
    message_id, _, number = event.value.removeprefix(ANSWER).partition(":")
    if not event.value.startswith(ANSWER) or not is_id(message_id, Prefix.MESSAGE) or not number.isdecimal():
        return None
    chat = (event.address.channel_type, event.address.platform_id)
    sent = deliveries.sent_as(connection, chat, message_id)
    try:
        options = [] if sent is None else decode(sent["content"]).get("options")
    except FileDamaged:
        return None
    text = option_of(options, int(number)) if len(number) < 4 else None
    if text is None:
        return None
    return Event(
        address=event.address,
        platform_message_id=f"click/{event.click_id}",
        text=text,
        sender_id=event.sender_id,
        sender_name=event.sender_name,
        reply_to=message_id,
    )


def option_of(options: object, number: int | None) -> str | None:
    """Returns what a person says who chooses an option of a question by its number, from 1."""
    for place, option in enumerate(options if isinstance(options, list) else [], 1):
        if isinstance(option, dict) and place == number:
            return str(option.get("label") or number)
    return None


def gone(tx: Transaction, event: ChatGone) -> None:
    """The bot cannot write in a chat any more: what waits for it is given up."""
    address = event.address
    reason = f"the chat is gone: {event.reason}"[:500]
    deliveries.give_up_chat(tx, (address.channel_type, address.platform_id), reason)
