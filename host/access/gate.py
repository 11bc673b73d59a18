"""At the door: what becomes of a message before any agent hears of it. In the transaction that accepts it.

Invariant: what is refused here makes no session, no user and no context. It is counted (`dropped_messages`), or waits
for a decision with the approval that asks for one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from host.access import approvals, cards, claim, codes
from host.access.admission import UNKNOWN, Admission, AdmissionVerdict, admission, asks_who_it_is
from host.access.kinds import ApprovalKind
from host.access.pairing import PAIRING
from host.access.standing import AT_TERMINAL, TERMINAL, Standing, standing_of
from host.access.unknown_chat import MOST_CHOICES, UNKNOWN_CHAT, register, wire
from host.central import agent_groups, host_messages, messaging_groups, rate_limits, users
from host.central import approvals as table
from host.central.approvals import ApprovalState
from host.central.database import Queryable, Transaction
from host.central.messaging_groups import TERMINAL_CHANNEL, MessagingGroup, Wiring
from host.central.rate_limits import Act
from shared_schema.clock import from_text, to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue
from shared_schema.rows import Address
from shared_schema.text import one_line

NOT_AGAIN = timedelta(days=7)
"""After a no the same is not asked again for so long."""

WAITS = "the owner is asked, and the message waits"
_DENIED = "it was denied before"
_TOO_MANY = "too much waits for a decision already"
_KNOCKED = (
    "You are not known here yet. The owner of this bot is asked to let you in, and your message waits. "
    "Your code is {code}."
)
_NO_OWNER = (
    "This bot has no owner yet. If you run its host, write here the code that `dumbwaiter doctor` prints. "
    "Your message waits."
)
_ASKED_TO_WIRE = "This bot does not know this chat yet. Its owner is asked, and your message waits. The code is {code}."
_NAME = 80
_FILES = 10
_NAMES_OF_AGENTS = 800


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A message as the door sees it. `waiting` makes JSON of the whole event, should it wait for a decision.

    `files` are the names of what came with it, as the platform says them.

    `is_trusted`: it was handed in at the host's own terminal, by its owner.
    """

    address: Address
    message_id: str
    sender: str | None
    sender_name: str | None
    text: str
    is_mention: bool
    is_group: bool | None
    chat_name: str | None
    is_trusted: bool
    waiting: Callable[[], Mapping[str, Any]]
    files: tuple[str, ...] = ()

    @property
    def chat(self) -> str:
        """`<channel>:<platform id>`."""
        return f"{self.address.channel_type}:{self.address.platform_id}"

    @property
    def user(self) -> str | None:
        """`<channel>:<handle>`, where the platform says who it is."""
        if self.is_trusted:
            return TERMINAL
        return None if self.sender is None else users.user_id(self.address.channel_type, self.sender)


def sender_of(connection: Queryable, arrival: IncomingMessage) -> Standing | None:
    """Who has written. None where the platform does not say."""
    if arrival.is_trusted:
        return AT_TERMINAL
    return None if arrival.user is None else standing_of(connection, arrival.user)


def admit(
    tx: Transaction, arrival: IncomingMessage, chat: MessagingGroup, wirings: Sequence[Wiring]
) -> tuple[Admission, Standing | None]:
    """Which agents of a chat listen, and who the sender is where that was asked for.

    One statement, and none in a chat that lets everybody speak with everybody.
    """
    if arrival.is_trusted:
        return Admission(AdmissionVerdict.ADMITTED, tuple(wirings)), AT_TERMINAL
    sender = None
    if asks_who_it_is(chat.unknown_sender, wirings):
        sender = sender_of(tx, arrival)
        if sender is not None and sender.is_decider and not chat.is_group:
            _note_direct_chat(tx, arrival, sender)
    return admission(chat.unknown_sender, wirings, sender), sender


def claim_owner(tx: Transaction, arrival: IncomingMessage) -> str | None:
    """The code of the first owner, said in a direct chat, alone or behind `/claim`; what became of it.

    None: it is a message like any other.
    """
    said = codes.claimed(arrival.text)
    if said is None or arrival.is_group is not False or arrival.user is None:
        return None
    if arrival.address.channel_type == TERMINAL_CHANNEL:  # who sits there is the owner
        return None
    tried = claim.tried(
        tx, said, user=arrival.user, name=_short(arrival.sender_name), direct_chat=arrival.address.platform_id
    )
    if tried is None:
        return None
    is_owner, sentence = tried
    if is_owner:
        sentence = f"{sentence} {_greet(tx, arrival)}".rstrip()
    say_once(tx, arrival, sentence)
    return "the code of the owner was said" if is_owner else "a wrong code of the owner was said"


def knock(tx: Transaction, arrival: IncomingMessage, wirings: Sequence[Wiring]) -> str:
    """Ask the deciders about a stranger. Returns what became of the stranger's message."""
    assert arrival.user is not None, "only a person with an id can be let in"
    is_direct = not arrival.is_group
    arguments = {
        "user": arrival.user,
        "name": _short(arrival.sender_name),
        "chat": arrival.chat,
        "chat_name": _short(arrival.chat_name),
        "agents": [_name_of(tx, wiring.agent_group_id) for wiring in wirings],
        "message": cards.shortened(arrival.text, 600),
        **_files(arrival),
        "agent_group_ids": [wiring.agent_group_id for wiring in wirings],
        "direct_chat": arrival.address.platform_id if is_direct else None,
    }
    return _ask(tx, arrival, PAIRING, f"{arrival.user} in {arrival.chat}", arguments, Act.KNOCK, _KNOCKED)


def ask_to_wire(tx: Transaction, arrival: IncomingMessage) -> str | None:
    """Ask about an unknown chat in which the bot is spoken to. Returns what became of the message; None: it was not."""
    if arrival.is_group is not False and not arrival.is_mention:
        return None
    names: list[str] = []
    groups = agent_groups.all_groups(tx)
    for group in groups[:MOST_CHOICES]:
        if sum(map(len, names)) + len(group.name) <= _NAMES_OF_AGENTS:
            names.append(group.name)
    if not names:
        return None
    arguments = {
        "chat": arrival.chat,
        "chat_name": _short(arrival.chat_name),
        "group": arrival.is_group is not False,
        "user": arrival.user,
        "name": _short(arrival.sender_name),
        "agents": names,
        "message": cards.shortened(arrival.text, 600),
        **_files(arrival),
    }
    return _ask(
        tx,
        arrival,
        UNKNOWN_CHAT,
        arrival.chat,
        arguments,
        Act.UNKNOWN_CHAT,
        _ASKED_TO_WIRE,
        agent_group_ids=[group.id for group in groups if group.name in names],
    )


def say_once(tx: Transaction, arrival: IncomingMessage, text: str) -> None:
    """Answer a message outside of any conversation, once however often its platform sends it."""
    host_messages.say(
        tx,
        f"answer/{arrival.chat}/{arrival.message_id}",
        arrival.address.channel_type,
        arrival.address.platform_id,
        text,
        thread_id=arrival.address.thread_id,
    )


def _ask(
    tx: Transaction,
    arrival: IncomingMessage,
    kind: ApprovalKind,
    subject: str,
    arguments: Mapping[str, Any],
    act: Act,
    sentence: str,
    agent_group_ids: Sequence[str] | None = None,
) -> str:
    last = table.last_for(tx, kind.name, subject)
    is_open = last is not None and last.state == ApprovalState.PENDING
    if last is not None and last.state == ApprovalState.DENIED and (last.decided_at or "") > _before(tx.now):
        return _DENIED
    if not is_open and not rate_limits.take(tx, act, arrival.address.channel_type).allowed:
        return _TOO_MANY
    of = agent_group_ids if agent_group_ids is not None else arguments["agent_group_ids"]
    try:
        asked = approvals.ask(tx, kind, subject, arguments, agent_groups=of, waiting=arrival.waiting())
    except InvalidValue:  # identifiers of an absurd length: no person could judge them
        return UNKNOWN
    if asked is None:
        return _TOO_MANY
    if asked.is_new:
        if kind is UNKNOWN_CHAT and not users.has_owner(tx):
            sentence = _NO_OWNER
        say_once(tx, arrival, sentence.format(code=asked.approval.code))
    return WAITS if asked.is_kept else _TOO_MANY


def _greet(tx: Transaction, arrival: IncomingMessage) -> str:
    """Let the agent of a new owner answer in the chat where they are: the only one, else they choose."""
    if messaging_groups.find(tx, arrival.address.channel_type, arrival.address.platform_id) is not None:
        return ""
    groups = agent_groups.all_groups(tx)
    if not groups:
        return "There is no agent yet: `dumbwaiter init` on the host's machine makes one."
    if len(groups) > 1:
        return "What you write next asks you which agent is to answer here."
    chat = register(tx, arrival.chat, name=_short(arrival.chat_name), is_group=False)
    wire(tx, chat, groups[0].id, groups[0].name)
    # What was written here before the code, such as the /start of a platform, waits for no decision any more.
    waiting = table.open_for(tx, UNKNOWN_CHAT.name, arrival.chat)
    if waiting is not None and arrival.user is not None:
        owner = standing_of(tx, arrival.user)
        approvals.close_approved(tx, waiting, owner, arrival.chat, groups[0].name)
    return f"{groups[0].name} answers here."


def _note_direct_chat(tx: Transaction, arrival: IncomingMessage, sender: Standing) -> None:
    """Note where a decider can be reached, when that is new."""
    if sender.direct_chat != arrival.address.platform_id:
        users.seen(tx, sender.user, arrival.address.platform_id, _short(arrival.sender_name))


def _name_of(connection: Queryable, agent_group_id: str) -> str:
    group = agent_groups.by_id(connection, agent_group_id)
    return "" if group is None else group.name


def _files(arrival: IncomingMessage) -> dict[str, list[str]]:
    """The argument that names the files of a message, where it has some."""
    if not arrival.files:
        return {}
    shown = [one_line(name, 40) or "?" for name in arrival.files[:_FILES]]
    more = len(arrival.files) - len(shown)
    return {"files": [*shown, f"and {more} more"] if more else shown}


def _short(name: str | None) -> str | None:
    return (one_line(name, _NAME) or None) if name else None


def _before(now: str) -> str:
    return to_text(from_text(now) - NOT_AGAIN)
