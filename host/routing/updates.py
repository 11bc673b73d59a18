"""What people do in a chat beside writing: they change and delete messages, press buttons, and add the bot.

Each is one transaction, and may come twice. A message that waits is replaced or cancelled; one that a turn has taken is
answered as it was, and what it says now is context for the next turn. The turn that takes it at this very moment ends
by itself when its message is cancelled.
"""

from __future__ import annotations

import hashlib
import sqlite3
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


def edited(connection: sqlite3.Connection, event: Edited, rules: Rules, now: str) -> RoutingOutcome:
    """A person has changed a message. Raises `InvalidValue` for what identifies nothing, as the others here do."""
    require_identifiers(event.address, ("message id", event.platform_message_id), ("sender", event.sender_id))
    address, outcome = event.address, RoutingOutcome(Receipt((), _NOT_HERE))
    group = messaging_groups.find(connection, address.channel_type, address.platform_id)
    text = truncate(without_lone_surrogates(event.text), rules.max_text)
    rows = ingest.of_platform_message(connection, address.channel_type, address.platform_id, event.platform_message_id)
    if not rows or group is None:
        _change_waiting(connection, address, event.platform_message_id, text)
        return outcome
    sender = event.sender_id or rows[0].sender_id
    allowed = heard_by(connection, group, address, event.platform_message_id, sender, event.text)
    for row in rows:
        if row.agent_group_id not in allowed:
            refusals.drop(connection, address.channel_type, address.platform_id, event.sender_id, UNKNOWN, now)
        elif row.kind == MessageInKind.CHAT and ingest.text_of(row) != text:
            _change(connection, row, text, now, outcome)
    if outcome.heard:
        outcome.receipt = Receipt(())
    return outcome


def deleted(connection: sqlite3.Connection, event: Deleted, now: str) -> RoutingOutcome:
    """A person has deleted a message: where it waits, it is cancelled."""
    require_identifiers(event.address, ("message id", event.platform_message_id))
    address, outcome = event.address, RoutingOutcome(Receipt((), _NOT_HERE))
    for row in ingest.of_platform_message(
        connection, address.channel_type, address.platform_id, event.platform_message_id
    ):
        is_waiting = row.kind == MessageInKind.CHAT and row.turn_id is None
        if is_waiting and row.session_id is not None and ingest.cancel(connection, row.message_id, now):
            outcome.heard.append(row.session_id)
            outcome.receipt = Receipt(())
    _change_waiting(connection, address, event.platform_message_id, None)
    return outcome


def clicked(connection: sqlite3.Connection, event: Clicked, now: str) -> tuple[RoutingOutcome, Event | None]:
    """A person has pressed a button: an approval is decided, or (the event) a question is answered."""
    require_identifiers(event.address, ("sender", event.sender_id), ("click id", event.click_id))
    if not event.value.isascii() or len(event.value) > _LONGEST_VALUE:  # ours are neither
        return RoutingOutcome(Receipt((), _NO_BUTTON)), None
    outcome, address = RoutingOutcome(Receipt(())), event.address
    chat = f"{address.channel_type}:{address.platform_id}"
    who = standing_of(connection, users.user_id(address.channel_type, event.sender_id))
    answer = answers.click(connection, event.value, who, chat, now)
    if answer is None:
        said = _option(connection, event)
        if said is None:
            outcome.receipt = Receipt((), _NO_BUTTON)
        return outcome, said
    outcome.says, outcome.agent_groups = True, answer.agent_groups
    if not answer.is_done:  # else the card itself says how it ended
        outcome.receipt = Receipt((), answer.text)
        host_messages.say(
            connection,
            f"click/{chat}/{event.click_id}",
            address.channel_type,
            address.platform_id,
            answer.text,
            now,
            thread_id=address.thread_id,
        )
    return outcome, None


def joined(connection: sqlite3.Connection, event: Joined, now: str) -> RoutingOutcome:
    """The bot was added to a group, which is told once a day what it hears there."""
    require_identifiers(event.address, ("sender", event.sender_id))
    outcome, address = RoutingOutcome(Receipt(())), event.address
    if not event.is_group:
        return outcome
    chat = f"{address.channel_type}:{address.platform_id}"
    group = messaging_groups.find(connection, address.channel_type, address.platform_id)
    wirings = [] if group is None else messaging_groups.wirings_of(connection, group.id)
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
    key = f"joined/{chat}/{now[:10]}"
    outcome.says = host_messages.say(
        connection, key, address.channel_type, address.platform_id, text, now, thread_id=address.thread_id
    )
    return outcome


def heard_by(
    connection: sqlite3.Connection,
    group: MessagingGroup,
    address: Address,
    message_id: str,
    sender: str | None,
    text: str,
) -> frozenset[str]:
    """The agent groups that listen to a person in a chat, by its rules as they are now."""
    arrival = IncomingMessage(
        address, message_id, sender, None, text, False, bool(group.is_group), None,
        address.channel_type == messaging_groups.TERMINAL_CHANNEL, dict,
    )  # fmt: skip
    admission, _ = gate.admit(connection, arrival, group, messaging_groups.wirings_of(connection, group.id))
    if admission.verdict != AdmissionVerdict.ADMITTED:
        return frozenset()
    return frozenset(wiring.agent_group_id for wiring in admission.wirings)


def _change(
    connection: sqlite3.Connection, row: ingest.AcceptedMessage, text: str, now: str, outcome: RoutingOutcome
) -> None:
    """Bring the new text to one agent group that took the message."""
    session = None if row.session_id is None else sessions.lookup(connection, row.session_id)
    if session is None or session.status != "active":
        return
    try:
        content = decode(row.content)
    except FileDamaged:
        return
    is_waiting = row.status == MessageInStatus.PENDING and row.turn_id is None
    if is_waiting and ingest.supersede(connection, row.message_id, now):
        # Never changed in place: it may be in the session's file, or on its way there at this moment.
        _put_in_place(connection, row, content | {"text": text}, session, now)
        outcome.heard.append(session.id)
    elif row.generation == session.generation:
        was = {"message": row.message_id, "text": preview(str(content.get("text", "")))}
        mark = hashlib.sha256(text.encode()).hexdigest()[:16]
        told: dict[str, object] = {"text": f"edited: {text}", "reply_to": was}
        address = Address(row.channel_type, row.platform_id, row.thread_id)
        key = f"{row.platform_message_id}/edited/{mark}"
        put(connection, session, address, key, told, now, sender_id=row.sender_id, sender_name=row.sender_name)
        since = to_text(from_text(now) - HEARD_FOR)
        ingest.cancel_old_heard(connection, session.id, MOST_HEARD, since, now)
        outcome.heard.append(session.id)


def put(
    connection: sqlite3.Connection,
    session: sessions.Session,
    address: Address,
    platform_message_id: str,
    content: dict[str, object],
    now: str,
    *,
    sender_id: str | None,
    sender_name: str | None,
    message_id: str | None = None,
    trigger: int = 0,
    spool: str | None = None,
) -> None:
    """Put a message into a session: what a person did, as context that wakes no agent unless it is a `trigger`."""
    ingest.accept(
        connection,
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
            "accepted_at": now,
        },
    )


def _put_in_place(
    connection: sqlite3.Connection,
    row: ingest.AcceptedMessage,
    content: dict[str, object],
    session: sessions.Session,
    now: str,
) -> None:
    """Put a message where another one was, with the files of that one if they still wait."""
    message_id, spool = new_id(Prefix.MESSAGE), None
    if row.spool is not None and row.state == "accepted":
        spool = row.spool  # its files go where the new message looks for them
        names = [file["name"] for file in cast("list[dict[str, str]]", content["files"])]
        content["files"] = [{"name": name, "path": f"inbox/{message_id}/{name}"} for name in names]
    put(
        connection,
        session,
        Address(row.channel_type, row.platform_id, row.thread_id),
        row.platform_message_id,
        content,
        now,
        sender_id=row.sender_id,
        sender_name=row.sender_name,
        message_id=message_id,
        trigger=row.trigger,
        spool=spool,
    )


def _change_waiting(connection: sqlite3.Connection, address: Address, message_id: str, text: str | None) -> None:
    """Change what waits for a decision; None: it is deleted."""
    for approval in approvals.waiting_for(connection, address.channel_type, address.platform_id, message_id):
        events = [
            event if event["platform_message_id"] != message_id else event | {"text": truncate(text or "", LONGEST)}
            for event in approval.events
            if text is not None or event["platform_message_id"] != message_id
        ]
        approvals.set_waiting(connection, approval, events)


def _option(connection: sqlite3.Connection, event: Clicked) -> Event | None:
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


def gone(connection: sqlite3.Connection, event: ChatGone, now: str) -> list[str]:
    """The bot cannot write in a chat any more: what waits for it is given up; the sessions whose agents are told."""
    address = event.address
    reason = f"the chat is gone: {event.reason}"[:500]
    return deliveries.give_up_chat(connection, (address.channel_type, address.platform_id), reason, now)
