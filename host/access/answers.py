"""What the host answers to `/approve`, `/deny`, `/whoami` and a button: in one transaction, with what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from host.access import approvals, cards
from host.access.standing import TERMINAL, Standing
from host.central import agent_groups
from host.central.database import Transaction
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError

APPROVE_HOW = "Write /approve and the code of the card, such as /approve K7Q2MX; /deny and the code says no."
_UNNAMED = Standing("?")
STRANGER = "You are {user}. This host does not know you."


@dataclass(frozen=True, slots=True)
class AccessAnswer:
    """A sentence for who asked."""

    text: str
    is_done: bool = True


def click(tx: Transaction, value: str, who: Standing, where_from: str) -> AccessAnswer | None:
    """A button; None for one that is no approval's."""
    parsed = cards.parsed(value)
    return None if parsed is None else _decided(tx, parsed[0], who, where_from, parsed[1])


def _approve(tx: Transaction, argument: str, who: Standing | None, where_from: str) -> str:
    code, _, choice = argument.partition(" ")
    return _decided(tx, code, who or _UNNAMED, where_from, choice.strip() or None).text


def _deny(tx: Transaction, argument: str, who: Standing | None, where_from: str) -> str:
    return _decided(tx, argument.partition(" ")[0], who or _UNNAMED, where_from, cards.NO).text


def _whoami(tx: Transaction, argument: str, who: Standing | None, where_from: str) -> str:
    if who is None:
        return "The platform does not say who you are."
    if who.user == TERMINAL:
        return "You are at the terminal of the host: you are its owner."
    if not who.is_known:
        return STRANGER.format(user=who.user)
    roles = ["owner"] if who.is_owner else []
    for word, of in (("admin", who.admin_of), ("member", who.member_of)):
        if None in of:
            roles.append(f"{word} of all agents")
        elif of:
            groups = (agent_groups.by_id(tx, each) for each in of if each is not None)
            roles.append(f"{word} of {', '.join(sorted(group.name for group in groups if group is not None))}")
    return f"You are {who.user}: {', '.join(roles)}."


HOST_WIDE: Mapping[str, Callable[[Transaction, str, Standing | None, str], str]] = {
    "approve": _approve,
    "deny": _deny,
    "whoami": _whoami,
}
"""What answers a command that is about the host, by its word, wherever it is written: in a chat of an agent, or in one
without. It does what is asked for in the transaction that it is given, and gets what stands behind the word, who has
written it (None: the platform does not say) and the address of the chat."""


def _decided(tx: Transaction, code: str, who: Standing, where_from: str, answer: str | None) -> AccessAnswer:
    if not code:
        return AccessAnswer(APPROVE_HOW, is_done=False)
    try:
        done = approvals.decide(tx, code, who, where_from, answer)
    except DumbwaiterError as error:
        return AccessAnswer(error.told, is_done=False)
    return AccessAnswer(done.sentence)
