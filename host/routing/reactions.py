"""What people say with a reaction: context for the agent whose message, or whose person's message, it is put on.

On a question without options, by the person who was asked, it is the answer; a number on one with options chooses.
On the card of an approval a thumb up or a check says yes and a thumb down or a cross no, from who may decide.

Invariant: as with messages, who is not heard in a chat leaves nothing there but a drop record.
"""

from __future__ import annotations

from host.access import answers
from host.access.admission import UNKNOWN
from host.access.standing import standing_of
from host.central import (
    deliveries,
    host_messages,
    ingest,
    messaging_groups,
    questions,
    rate_limits,
    refusals,
    sessions,
    users,
)
from host.central.database import Queryable, Transaction
from host.central.rate_limits import Act
from host.routing.acceptance import HEARD_FOR, MOST_HEARD, RoutingOutcome
from host.routing.event import Event, Reacted, Receipt, require_identifiers
from host.routing.text import preview
from host.routing.updates import heard_by, option_of, put
from shared_schema.clock import from_text, to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import FileDamaged
from shared_schema.rows import Address, MessageInKind, MessageOutKind, decode
from shared_schema.text import one_line

_YES = frozenset("👍✅☑✔")
_NO = frozenset("👎❌✖")
_KEYCAP = "\u20e3"
_LONGEST = 60
_NOT_HERE = "the reaction is on nothing that an agent knows"


def reacted(tx: Transaction, event: Reacted) -> tuple[RoutingOutcome, Event | None]:
    """A person has put a reaction on a message, or taken one away; the event that it stands for, if it is an answer.

    Raises `InvalidValue` for what identifies nothing.
    """
    require_identifiers(event.address, ("message id", event.platform_message_id), ("sender", event.sender_id))
    outcome, address = RoutingOutcome(Receipt((), _NOT_HERE)), event.address
    emoji = one_line(event.emoji or "", _LONGEST) or None
    if event.sender_id is None or (event.emoji is not None and emoji is None):
        return outcome, None
    chat = (address.channel_type, address.platform_id)
    card = host_messages.card_at(tx, chat, event.platform_message_id)
    if card is not None:
        if emoji is not None:
            _decide(tx, event, card.key, card.buttons, emoji, outcome)
        return outcome, None
    if emoji is not None and (answer := _answer(tx, event, emoji, tx.now)) is not None:
        return outcome, answer
    group = messaging_groups.find(tx, *chat)
    on = _reacted_to(tx, event)
    if group is None or not on:
        return outcome, None
    allowed = heard_by(tx, group, address, event.platform_message_id, event.sender_id, emoji or "")
    for row in on:
        if row.session.agent_group_id not in allowed:
            refusals.drop(tx, *chat, event.sender_id, UNKNOWN)
        elif rate_limits.take(tx, Act.REACTION, f"{chat[0]}:{chat[1]}").allowed:
            _tell(tx, event, row, emoji, outcome)
    if outcome.heard:
        outcome.receipt = Receipt(())
    return outcome, None


@dataclass(frozen=True, slots=True)
class _On:
    """A message that a reaction is put on, as one agent group knows it."""

    session: sessions.Session
    message_id: str
    thread_id: str | None
    content: str


def _reacted_to(connection: Queryable, event: Reacted) -> list[_On]:
    """What the agents know of the message: what one of them has said, or what they were told."""
    chat = (event.address.channel_type, event.address.platform_id)
    found: list[_On] = []
    sent = deliveries.sent_as(connection, chat, event.platform_message_id)
    if sent is not None:
        session = sessions.lookup(connection, sent["session_id"])
        if session is not None and session.status == "active":
            found.append(_On(session, sent["message_out_id"], sent["thread_id"], sent["content"]))
        return found
    for row in ingest.of_platform_message(connection, *chat, event.platform_message_id):
        session = None if row.session_id is None else sessions.lookup(connection, row.session_id)
        is_here = session is not None and session.status == "active" and row.generation == session.generation
        if session is not None and is_here and row.kind == MessageInKind.CHAT:
            found.append(_On(session, row.message_id, row.thread_id, row.content))
    return found


def _tell(tx: Transaction, event: Reacted, on: _On, emoji: str | None, outcome: RoutingOutcome) -> None:
    """Bring it to one agent group as context. What is taken back before a turn has seen it is never seen."""
    begins = f"{event.platform_message_id}/reaction/{event.sender_id}/"
    if emoji is not None:
        _put(tx, event, on, f"{begins}{emoji}", f"reacted with {emoji}")
    else:
        taken = one_line(event.removed or "", _LONGEST)
        rows = ingest.beginning_with(tx, on.session.agent_group_id, event.address, begins + taken)
        for row in rows:
            emoji = row.platform_message_id.removeprefix(begins)
            if "/" in emoji or row.session_id != on.session.id:
                continue
            if row.turn_id is None and ingest.supersede(tx, row.message_id):
                outcome.heard.append(on.session.id)
                continue
            ingest.free_platform_id(tx, row.message_id)  # the same may come again, and is news then
            _put(tx, event, on, f"{begins}{emoji}/back/{row.message_id}", f"took back the reaction {emoji}")
    since = to_text(from_text(tx.now) - HEARD_FOR)
    ingest.cancel_old_heard(tx, on.session.id, MOST_HEARD, since)
    outcome.heard.append(on.session.id)


def _put(tx: Transaction, event: Reacted, on: _On, key: str, text: str) -> None:
    try:
        was = preview(str(decode(on.content).get("text") or ""))
    except FileDamaged:
        was = ""
    content: dict[str, object] = {"text": text, "reply_to": {"message": on.message_id} | ({"text": was} if was else {})}
    address = Address(event.address.channel_type, event.address.platform_id, on.thread_id)
    put(
        tx,
        on.session,
        address,
        key,
        content,
        sender_id=event.sender_id,
        sender_name=None if event.sender_name is None else one_line(event.sender_name, 200) or None,
    )


def _answer(connection: Queryable, event: Reacted, emoji: str, now: str) -> Event | None:
    """What the person who was asked says by a reaction on an open question."""
    chat = (event.address.channel_type, event.address.platform_id)
    sent = deliveries.sent_as(connection, chat, event.platform_message_id)
    if sent is None or sent["kind"] != MessageOutKind.QUESTION or event.sender_id is None:
        return None
    if not questions.is_asked(connection, sent["session_id"], sent["message_out_id"], event.sender_id, now):
        return None
    try:
        options = decode(sent["content"]).get("options")
    except FileDamaged:
        return None
    text: str | None = emoji
    if isinstance(options, list) and options:
        text = option_of(options, _number(emoji))
    if text is None:
        return None
    return Event(
        address=Address(*chat, sent["thread_id"]),
        platform_message_id=f"{event.platform_message_id}/answer/{event.sender_id}",
        text=text,
        sender_id=event.sender_id,
        sender_name=event.sender_name,
        reply_to=sent["message_out_id"],
    )


def _decide(
    tx: Transaction,
    event: Reacted,
    key: str,
    buttons: list[tuple[str, str]],
    emoji: str,
    outcome: RoutingOutcome,
) -> None:
    """Take a reaction on a card as its answer, exactly as the button would be."""
    assert event.sender_id is not None, "it was looked at"
    address, sign = event.address, emoji[:1]
    *yes, no = [value for _, value in buttons] or [""]
    number = _number(emoji)
    if sign in _NO:
        value = no
    elif sign in _YES and len(yes) == 1:
        value = yes[0]
    elif number is not None and number <= len(yes):
        value = yes[number - 1]
    else:
        return
    chat = f"{address.channel_type}:{address.platform_id}"
    who = standing_of(tx, users.user_id(address.channel_type, event.sender_id))
    answer = answers.click(tx, value, who, chat)
    if answer is None:
        return
    outcome.receipt = Receipt(())
    if not answer.is_done:  # else the card itself says how it ended
        outcome.receipt = Receipt((), answer.text)
        if who.is_known:
            host_messages.say(
                tx,
                f"reaction/{key}/{event.sender_id}/{emoji}",
                address.channel_type,
                address.platform_id,
                answer.text,
                thread_id=address.thread_id,
            )


def _number(emoji: str) -> int | None:
    """The number of a key cap: 3 for 3️⃣."""
    return int(emoji[0]) if emoji.endswith(_KEYCAP) and emoji[0] in "123456789" else None
