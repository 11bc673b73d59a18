"""The first owner: who says the code that the host prints is the owner from then on.

The code has eight symbols, holds for an hour, and is locked for an hour by five wrong tries: 2^40 codes and five tries
an hour are not guessed. Wrong tries count for the host, not for a sender: accounts cost nothing. Who sits at the
terminal needs no code (`dumbwaiter role grant`).
"""

from __future__ import annotations

from datetime import timedelta

from host.access import codes
from host.central import audit, owner_claim, users
from host.central.audit import Actor
from host.central.database import Transaction
from host.central.users import Role
from shared_schema.clock import from_text, to_text
from shared_schema.dataclass import dataclass

VALID = timedelta(hours=1)
LOCKED = timedelta(hours=1)
MOST_WRONG = 5

OWNER_NOW = "You are the owner of this host now. /whoami says who you are to it; /help what you can say here."
WRONG = "That is not the code of this host. `dumbwaiter doctor` on the host's machine prints it."
LOCKED_NOW = (
    "There were 5 wrong tries: no code is taken for an hour. On the host's machine, "
    "`dumbwaiter role grant {user} owner` makes you the owner at once."
)


@dataclass(frozen=True, slots=True)
class ClaimOffer:
    """The code to print, or until when none is taken."""

    code: str | None
    expires_at: str | None = None
    locked_until: str | None = None


def offer(tx: Transaction) -> ClaimOffer | None:
    """The code with which the owner is claimed, a fresh one when there is none; None when there is an owner."""
    if users.has_owner(tx):
        return None
    claim = owner_claim.get(tx)
    if claim is not None and claim.locked_until is not None and claim.locked_until > tx.now:
        return ClaimOffer(None, locked_until=claim.locked_until)
    if claim is None or claim.expires_at <= tx.now or claim.locked_until is not None:
        expires_at = to_text(from_text(tx.now) + VALID)
        owner_claim.put(tx, codes.new_claim_code(), expires_at)
        claim = owner_claim.get(tx)
        assert claim is not None
    return ClaimOffer(codes.grouped(claim.code), claim.expires_at)


def tried(tx: Transaction, said: str, *, user: str, name: str | None, direct_chat: str) -> tuple[bool, str] | None:
    """Take a code that a person says in a direct chat. Returns whether they are the owner now, and what they are told.

    None when no code is waited for: then it is a message like any other.
    """
    if users.has_owner(tx):
        return None
    claim = owner_claim.get(tx)
    if claim is None:
        return None
    if claim.locked_until is not None and claim.locked_until > tx.now:
        return False, LOCKED_NOW.format(user=user)
    if claim.expires_at <= tx.now:
        return False, WRONG
    if not codes.same(codes.normalised(said), claim.code):
        is_last = claim.wrong_tries + 1 >= MOST_WRONG
        owner_claim.wrong(tx, to_text(from_text(tx.now) + LOCKED) if is_last else None)
        return False, LOCKED_NOW.format(user=user) if is_last else WRONG
    found = users.ensure(tx, user, name)
    users.seen(tx, user, direct_chat, name)
    users.grant(tx, found.person_id, Role.OWNER, None)
    owner_claim.forget(tx)
    with audit.acting(Actor(user, f"{found.channel}:{direct_chat}")):
        audit.record(tx, "role.grant", user, after={"role": "owner", "by": "the code of the host"})
    return True, OWNER_NOW
